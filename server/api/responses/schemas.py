"""The wire types of POST /v1/responses, as OpenAI's clients write them."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag
from pydantic_core import PydanticCustomError

from server.api.schemas import (
    FUNCTION_NAME,
    MAX_FRAMES,
    MAX_MESSAGES,
    MAX_PARTS,
    MAX_PRIORITY,
    MAX_TILES,
    MAX_TOOLS,
    MAX_VIDEO_SECONDS,
    Detail,
)
from server.api.strict import Strict, type_tag

MAX_ID_CHARS = 256
MAX_METADATA = 16

ItemId = Annotated[str, Field(max_length=MAX_ID_CHARS)]
ItemStatus = Literal["in_progress", "completed", "incomplete"]
Nothing = Annotated[list[Any], Field(max_length=0)]


class InputText(Strict):
    type: Literal["input_text"]
    text: str


class OutputText(Strict):
    """The assistant's, as an answer had it."""

    type: Literal["output_text"]
    text: str
    annotations: Nothing | None = None
    logprobs: Nothing | None = None


class InputImage(Strict):
    type: Literal["input_image"]
    image_url: str
    detail: Detail | None = None
    max_dynamic_patch: int | None = Field(None, ge=1, le=MAX_TILES)


class InputVideo(Strict):
    """Not in OpenAI's API."""

    type: Literal["input_video"]
    video_url: str
    num_frames: int | None = Field(None, ge=1, le=MAX_FRAMES)
    fps: float | None = Field(None, gt=0, le=60)
    start: float | None = Field(None, ge=0, le=MAX_VIDEO_SECONDS)
    end: float | None = Field(None, gt=0, le=MAX_VIDEO_SECONDS)


def _item_tag(value: Any) -> str | None:
    """OpenAI takes messages without a type."""
    if isinstance(value, dict):
        is_message = "role" in value and value.get("type") is None
    else:
        is_message = isinstance(value, MessageItem)
    return "#message" if is_message else type_tag(value)


InputPart = Annotated[
    Annotated[InputText, Tag("#input_text")]
    | Annotated[OutputText, Tag("#output_text")]
    | Annotated[InputImage, Tag("#input_image")]
    | Annotated[InputVideo, Tag("#input_video")],
    Discriminator(type_tag),
]


def _as_parts(value: Any) -> Any:
    """A string stands for one text part."""
    if isinstance(value, str):
        return [{"type": "input_text", "text": value}]
    if not isinstance(value, list):
        raise PydanticCustomError("content_type", "Input should be a string or a list of parts")
    return value


def _as_items(value: Any) -> Any:
    """A string stands for one message of the user's."""
    if isinstance(value, str):
        return [{"role": "user", "content": value}]
    if not isinstance(value, list):
        raise PydanticCustomError("content_type", "Input should be a string or a list of items")
    return value


Parts = Annotated[
    list[InputPart],
    Field(min_length=1, max_length=MAX_PARTS),
    BeforeValidator(_as_parts, json_schema_input_type=str | list[InputPart]),
]


class MessageItem(Strict):
    type: Literal["message"] | None = None
    role: Literal["user", "assistant", "system", "developer"]
    content: Parts
    id: ItemId | None = None
    status: ItemStatus | None = None
    phase: Literal["commentary", "final_answer"] | None = None


class FunctionCallItem(Strict):
    """A call that an earlier answer made."""

    type: Literal["function_call"]
    call_id: ItemId
    name: str = Field(pattern=FUNCTION_NAME)
    arguments: str
    id: ItemId | None = None
    status: ItemStatus | None = None


class FunctionCallOutputItem(Strict):
    type: Literal["function_call_output"]
    call_id: ItemId
    output: Parts
    id: ItemId | None = None
    status: ItemStatus | None = None


InputItem = Annotated[
    Annotated[MessageItem, Tag("#message")]
    | Annotated[FunctionCallItem, Tag("#function_call")]
    | Annotated[FunctionCallOutputItem, Tag("#function_call_output")],
    Discriminator(_item_tag),
]
Items = Annotated[
    list[InputItem],
    Field(min_length=1, max_length=MAX_MESSAGES),
    BeforeValidator(_as_items, json_schema_input_type=str | list[InputItem]),
]


class PlainFormat(Strict):
    type: Literal["text", "json_object"]


class SchemaFormat(Strict):
    type: Literal["json_schema"]
    name: str = Field(max_length=64)
    json_schema: dict[str, Any] = Field(alias="schema")
    description: str | None = None
    strict: bool | None = None


class TextSettings(Strict):
    format: (
        Annotated[
            Annotated[PlainFormat, Tag("#text")]
            | Annotated[PlainFormat, Tag("#json_object")]
            | Annotated[SchemaFormat, Tag("#json_schema")],
            Discriminator(type_tag),
        ]
        | None
    ) = None
    verbosity: Literal["medium"] | None = None


class FunctionTool(Strict):
    type: Literal["function"]
    name: str = Field(pattern=FUNCTION_NAME)
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class NamedFunction(Strict):
    type: Literal["function"]
    name: str


Metadata = Annotated[
    dict[Annotated[str, Field(max_length=64)], Annotated[str, Field(max_length=512)]],
    Field(max_length=MAX_METADATA),
]


class ResponsesRequest(Strict):
    """POST /v1/responses."""

    model: str | None = None
    input: Items
    instructions: str | None = None
    previous_response_id: ItemId | None = None
    store: bool | None = None
    stream: bool | None = None
    max_output_tokens: int | None = Field(None, ge=1)
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, ge=0, le=1)
    text: TextSettings | None = None
    tools: list[FunctionTool] | None = Field(None, max_length=MAX_TOOLS)
    tool_choice: Literal["none", "auto", "required"] | NamedFunction | None = None
    parallel_tool_calls: bool | None = None
    truncation: Literal["disabled"] | None = None
    metadata: Metadata | None = None
    user: str | None = Field(None, max_length=4096)
    safety_identifier: str | None = Field(None, max_length=4096)
    prompt_cache_key: str | None = Field(None, max_length=4096)
    service_tier: Literal["auto", "default"] | None = None
    top_k: int | None = Field(None, ge=-1, le=1 << 31)
    seed: int | None = Field(None, ge=-(2**63), lt=2**63)
    priority: int | None = Field(None, ge=-MAX_PRIORITY, le=MAX_PRIORITY)
    cache_salt: str | None = Field(None, max_length=256, pattern=r"^[^\r\n]*$")
