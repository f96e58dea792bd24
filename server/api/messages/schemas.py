"""The wire types of POST /v1/messages, as Anthropic's clients write them."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag
from pydantic_core import PydanticCustomError

from server.api.schemas import (
    FUNCTION_NAME,
    MAX_FRAMES,
    MAX_MESSAGES,
    MAX_PARTS,
    MAX_PRIORITY,
    MAX_STOP_STRINGS,
    MAX_TILES,
    MAX_TOOLS,
    MAX_VIDEO_SECONDS,
    StopString,
)
from server.api.strict import Strict, type_tag

CallId = Annotated[str, Field(max_length=256)]


class CacheControl(Strict):
    """Accepted: prompts are cached without being asked."""

    type: Literal["ephemeral"]
    ttl: Literal["5m", "1h"] | None = None


class TextBlock(Strict):
    type: Literal["text"]
    text: str
    cache_control: CacheControl | None = None
    citations: Annotated[list[Any], Field(max_length=0)] | None = None


class Base64Source(Strict):
    type: Literal["base64"]
    media_type: str = Field(pattern=r"^(image|video)/[a-z0-9.+-]{1,32}$")
    data: str


class UrlSource(Strict):
    type: Literal["url"]
    url: str


Source = Annotated[
    Annotated[Base64Source, Tag("#base64")] | Annotated[UrlSource, Tag("#url")],
    Discriminator(type_tag),
]


class ImageBlock(Strict):
    type: Literal["image"]
    source: Source
    max_dynamic_patch: int | None = Field(None, ge=1, le=MAX_TILES)
    cache_control: CacheControl | None = None


class VideoBlock(Strict):
    """Not in Anthropic's API."""

    type: Literal["video"]
    source: Source
    num_frames: int | None = Field(None, ge=1, le=MAX_FRAMES)
    fps: float | None = Field(None, gt=0, le=60)
    start: float | None = Field(None, ge=0, le=MAX_VIDEO_SECONDS)
    end: float | None = Field(None, gt=0, le=MAX_VIDEO_SECONDS)
    cache_control: CacheControl | None = None


class ToolUseBlock(Strict):
    """A call that an earlier answer made."""

    type: Literal["tool_use"]
    id: CallId
    name: str = Field(pattern=FUNCTION_NAME)
    input: dict[str, Any]
    cache_control: CacheControl | None = None


def _as_blocks(value: Any) -> Any:
    """A string stands for one text block."""
    if isinstance(value, str):
        return [{"type": "text", "text": value}]
    if not isinstance(value, list):
        raise PydanticCustomError("content_type", "Input should be a string or a list of blocks")
    return value


TextBlocks = Annotated[
    list[Annotated[Annotated[TextBlock, Tag("#text")], Discriminator(type_tag)]],
    Field(min_length=1, max_length=MAX_PARTS),
    BeforeValidator(_as_blocks, json_schema_input_type=str | list[TextBlock]),
]


class ToolResultBlock(Strict):
    type: Literal["tool_result"]
    tool_use_id: CallId
    content: TextBlocks | None = None
    is_error: bool | None = None
    cache_control: CacheControl | None = None


Block = Annotated[
    Annotated[TextBlock, Tag("#text")]
    | Annotated[ImageBlock, Tag("#image")]
    | Annotated[VideoBlock, Tag("#video")]
    | Annotated[ToolUseBlock, Tag("#tool_use")]
    | Annotated[ToolResultBlock, Tag("#tool_result")],
    Discriminator(type_tag),
]
Blocks = Annotated[
    list[Block],
    Field(min_length=1, max_length=MAX_PARTS),
    BeforeValidator(_as_blocks, json_schema_input_type=str | list[Block]),
]


class Turn(Strict):
    role: Literal["user", "assistant", "system"]
    content: Blocks


class ToolSpec(Strict):
    type: Literal["custom"] | None = None
    name: str = Field(pattern=FUNCTION_NAME)
    description: str | None = None
    input_schema: dict[str, Any]
    strict: bool | None = None
    cache_control: CacheControl | None = None


class ToolChoice(Strict):
    type: Literal["auto", "any", "tool", "none"]
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


class JsonFormat(Strict):
    type: Literal["json_schema"]
    json_schema: dict[str, Any] = Field(alias="schema")


class OutputConfig(Strict):
    format: JsonFormat | None = None


class UserMetadata(Strict):
    user_id: str | None = Field(None, max_length=4096)


class MessagesPrompt(Strict):
    """POST /v1/messages/count_tokens, and what a request for an answer shares with it."""

    model: str | None = None
    messages: list[Turn] = Field(min_length=1, max_length=MAX_MESSAGES)
    system: TextBlocks | None = None
    tools: list[ToolSpec] | None = Field(None, max_length=MAX_TOOLS)
    tool_choice: ToolChoice | None = None
    output_config: OutputConfig | None = None
    cache_control: CacheControl | None = None


class MessagesRequest(MessagesPrompt):
    """POST /v1/messages."""

    max_tokens: int = Field(ge=1)
    stream: bool | None = None
    stop_sequences: list[StopString] | None = Field(None, max_length=MAX_STOP_STRINGS)
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, ge=0, le=1)
    top_k: int | None = Field(None, ge=-1, le=1 << 31)
    metadata: UserMetadata | None = None
    service_tier: Literal["auto", "standard_only"] | None = None
    seed: int | None = Field(None, ge=-(2**63), lt=2**63)
    priority: int | None = Field(None, ge=-MAX_PRIORITY, le=MAX_PRIORITY)
    cache_salt: str | None = Field(None, max_length=256, pattern=r"^[^\r\n]*$")
