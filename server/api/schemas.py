"""The wire types of a chat completion request, as clients of OpenAI and vLLM write them.

What changes meaning and is not supported is refused by name (`server.api.unsupported`);
harmless unknown fields are accepted. Numbers are strict: "1" is no 1 and true is no 1.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

MAX_MESSAGES = 512
MAX_PARTS = 128
MAX_STOP_STRINGS = 16
MAX_STOP_CHARS = 256
MAX_TILES = 64
MAX_FRAMES = 128
MAX_VIDEO_SECONDS = 86_400
MAX_TOOLS = 128
MAX_PRIORITY = 1_000_000
MAX_CHOICES = 128
MAX_LOGPROBS = 20
MAX_BIASES = 1024
MAX_TOKENS = 1 << 20
MAX_TEXT_CHARS = 1 << 20
MAX_GRAMMAR_CHARS = 1 << 16
MAX_GRAMMAR_CHOICES = 1024

FUNCTION_NAME = r"^[a-zA-Z0-9_.-]{1,64}$"

Detail = Literal["auto", "low", "high"]


class Wire(BaseModel):
    """Strict types, unknown fields accepted, no NaN."""

    model_config = ConfigDict(strict=True, extra="allow", allow_inf_nan=False, frozen=True)


class TextContent(Wire):
    type: Literal["text", "input_text"]
    text: str


class ImageUrl(Wire):
    url: str
    detail: Detail | None = None
    max_dynamic_patch: int | None = Field(None, ge=1, le=MAX_TILES)


class VideoUrl(Wire):
    url: str
    num_frames: int | None = Field(None, ge=1, le=MAX_FRAMES)
    fps: float | None = Field(None, gt=0, le=60)
    start: float | None = Field(None, ge=0, le=MAX_VIDEO_SECONDS)
    end: float | None = Field(None, gt=0, le=MAX_VIDEO_SECONDS)
    max_dynamic_patch: Literal[1] | None = None  # a frame is always one tile


def _bare_url(value: Any) -> Any:
    """A bare string stands for `{"url": …}`."""
    return {"url": value} if isinstance(value, str) else value


class ImageContent(Wire):
    type: Literal["image_url", "input_image"]
    image_url: Annotated[ImageUrl, BeforeValidator(_bare_url, json_schema_input_type=Any)]
    detail: Detail | None = None  # input_image has it beside the URL


class VideoContent(Wire):
    type: Literal["video_url", "input_video"]
    video_url: Annotated[VideoUrl, BeforeValidator(_bare_url, json_schema_input_type=Any)]


ContentPart = Annotated[TextContent | ImageContent | VideoContent, Field(discriminator="type")]


def _as_parts(value: Any) -> Any:
    """A string stands for one text part."""
    if isinstance(value, str):
        return [{"type": "text", "text": value}]
    if not isinstance(value, list):
        raise PydanticCustomError("content_type", "Input should be a string or a list of parts")
    return value


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


Content = Annotated[
    list[ContentPart],
    Field(min_length=1, max_length=MAX_PARTS),
    BeforeValidator(_as_parts, json_schema_input_type=str | list[ContentPart]),
]
StopString = Annotated[str, Field(min_length=1, max_length=MAX_STOP_CHARS)]
StopStrings = Annotated[
    list[StopString],
    Field(max_length=MAX_STOP_STRINGS),
    BeforeValidator(_as_list, json_schema_input_type=str | list[str]),
]


TokenName = Annotated[str, Field(pattern=r"^[0-9]{1,9}$")]  # JSON's names are strings
Bias = Annotated[float, Field(ge=-100, le=100)]


class FunctionSpec(Wire):
    name: str = Field(pattern=FUNCTION_NAME)
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Tool(Wire):
    type: Literal["function"]
    function: FunctionSpec


class FunctionName(Wire):
    name: str = Field(pattern=FUNCTION_NAME)


class NamedTool(Wire):
    type: Literal["function"]
    function: FunctionName


class CalledFunctionContent(Wire):
    name: str = Field(pattern=FUNCTION_NAME)
    arguments: str


class ToolCallContent(Wire):
    """A call that the model made in an earlier turn."""

    id: str = Field(max_length=256)
    type: Literal["function"]
    function: CalledFunctionContent


class Message(Wire):
    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Content | None = None
    tool_calls: list[ToolCallContent] | None = Field(None, max_length=MAX_TOOLS)
    tool_call_id: str | None = Field(None, max_length=256)

    @property
    def parts(self) -> list[ContentPart]:
        return self.content or []


class StreamOptions(Wire):
    include_usage: bool | None = None
    continuous_usage_stats: bool | None = None


class VideoBounds(Wire):
    num_frames: int | None = Field(None, ge=1, le=MAX_FRAMES)
    fps: float | None = Field(None, gt=0, le=60)


class ProcessorBounds(VideoBounds):
    """vLLM's `mm_processor_kwargs` and `media_io_kwargs`: a closed set of bounded names."""

    max_dynamic_patch: int | None = Field(None, ge=1, le=MAX_TILES)
    max_patches: int | None = Field(None, ge=1, le=MAX_TILES)
    video: VideoBounds | None = None


class JsonSchemaFormat(Wire):
    name: str | None = Field(None, max_length=64)
    description: str | None = None
    json_schema: dict[str, Any] = Field(alias="schema")
    strict: bool | None = None


class ResponseFormat(Wire):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchemaFormat | None = None


class StructuredOutputs(Wire):
    """vLLM's: exactly one of them."""

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False, frozen=True)

    json_: dict[str, Any] | str | None = Field(None, alias="json")
    json_object: bool | None = None
    regex: str | None = Field(None, min_length=1, max_length=MAX_GRAMMAR_CHARS)
    choice: list[str] | None = Field(None, min_length=1, max_length=MAX_GRAMMAR_CHOICES)
    grammar: str | None = Field(None, min_length=1, max_length=MAX_GRAMMAR_CHARS)


class TokenizeRequest(Wire):
    """POST /tokenize with `prompt`; with `messages` it is a chat request."""

    model: str | None = None
    prompt: str = Field(max_length=MAX_TEXT_CHARS)
    return_token_strs: bool | None = None


class DetokenizeRequest(Wire):
    """POST /detokenize."""

    model: str | None = None
    tokens: list[int] = Field(max_length=MAX_TOKENS)


class SamplingFields(Wire):
    """What chat and text completions have in common: how tokens are picked and answers end."""

    model: str | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: int | None = Field(None, ge=1)
    min_tokens: int | None = Field(None, ge=0)
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, ge=0, le=1)
    top_k: int | None = Field(None, ge=-1, le=1 << 31)
    min_p: float | None = Field(None, ge=0, le=1)
    presence_penalty: float | None = Field(None, ge=-2, le=2)
    frequency_penalty: float | None = Field(None, ge=-2, le=2)
    repetition_penalty: float | None = Field(None, ge=0.01, le=10)
    seed: int | None = Field(None, ge=-(2**63), lt=2**63)
    stop: StopStrings | None = None
    stop_token_ids: list[int] | None = Field(None, max_length=64)
    ignore_eos: bool | None = None
    n: int | None = Field(None, ge=1, le=MAX_CHOICES)
    prompt_logprobs: int | None = Field(None, ge=0, le=MAX_LOGPROBS)
    logit_bias: dict[TokenName, Bias] | None = Field(None, max_length=MAX_BIASES)
    bad_words: list[StopString] | None = Field(None, max_length=64)
    allowed_token_ids: list[int] | None = Field(None, min_length=1, max_length=4096)
    include_stop_str_in_output: bool | None = None
    skip_special_tokens: bool | None = None
    return_token_ids: bool | None = None
    response_format: ResponseFormat | None = None
    structured_outputs: StructuredOutputs | None = None
    priority: int | None = Field(None, ge=-MAX_PRIORITY, le=MAX_PRIORITY)
    cache_salt: str | None = Field(None, max_length=256, pattern=r"^[^\r\n]*$")
    user: str | None = Field(None, max_length=4096)
    metadata: dict[str, Any] | None = None
    store: bool | None = None
    service_tier: str | None = None

    @property
    def num_wanted_tokens(self) -> int | None:
        """None: as many as the context has room for."""
        return self.max_tokens

    @property
    def num_top_logprobs(self) -> int | None:
        """With each answered token; None: no log-probabilities at all."""
        return None

    @property
    def num_top_prompt_logprobs(self) -> int | None:
        """The same with each token of the prompt."""
        return self.prompt_logprobs


class ChatCompletionRequest(SamplingFields):
    """POST /v1/chat/completions."""

    messages: list[Message] = Field(min_length=1, max_length=MAX_MESSAGES)
    max_completion_tokens: int | None = Field(None, ge=1)
    logprobs: bool | None = None
    top_logprobs: int | None = Field(None, ge=0, le=MAX_LOGPROBS)
    add_generation_prompt: bool | None = None
    continue_final_message: bool | None = None
    tools: list[Tool] | None = Field(None, max_length=MAX_TOOLS)
    tool_choice: Literal["auto", "none", "required"] | NamedTool | None = None
    parallel_tool_calls: bool | None = None
    mm_processor_kwargs: ProcessorBounds | None = None
    media_io_kwargs: ProcessorBounds | None = None

    @property
    def num_wanted_tokens(self) -> int | None:
        return self.max_completion_tokens or self.max_tokens

    @property
    def num_top_logprobs(self) -> int | None:
        return (self.top_logprobs or 0) if self.logprobs else None

    @property
    def usable_tools(self) -> list[Tool]:
        """Those that the model is told of."""
        return [] if self.tool_choice == "none" else self.tools or []
