"""The wire types of a chat completion request, as clients of OpenAI and vLLM write them.

What changes meaning and is not supported is refused by name (`server.api.parse`); harmless
unknown fields are accepted. Numbers are strict: "1" is no 1 and true is no 1.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

MAX_STOP_STRINGS = 16
MAX_STOP_CHARS = 256
MAX_TILES = 64
MAX_FRAMES = 128


class Wire(BaseModel):
    """Strict types, unknown fields accepted, no NaN."""

    model_config = ConfigDict(strict=True, extra="allow", allow_inf_nan=False, frozen=True)


class TextContent(Wire):
    type: Literal["text", "input_text"]
    text: str


class ImageUrl(Wire):
    url: str
    detail: Literal["auto", "low", "high"] = "auto"
    max_dynamic_patch: int | None = Field(None, ge=1, le=MAX_TILES)


class VideoUrl(Wire):
    url: str
    num_frames: int | None = Field(None, ge=1, le=MAX_FRAMES)
    fps: float | None = Field(None, gt=0, le=60)
    max_dynamic_patch: Literal[1] | None = None  # a frame is always one tile


def _bare_url(value: Any) -> Any:
    """A bare string stands for `{"url": …}`."""
    return {"url": value} if isinstance(value, str) else value


class ImageContent(Wire):
    type: Literal["image_url", "input_image"]
    image_url: Annotated[ImageUrl, BeforeValidator(_bare_url)]
    detail: Literal["auto", "low", "high"] | None = None  # input_image has it beside the URL


class VideoContent(Wire):
    type: Literal["video_url", "input_video"]
    video_url: Annotated[VideoUrl, BeforeValidator(_bare_url)]


ContentPart = Annotated[TextContent | ImageContent | VideoContent, Field(discriminator="type")]


class Message(Wire):
    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[ContentPart] | None = None


class StreamOptions(Wire):
    include_usage: bool = False


class VideoBounds(Wire):
    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False, frozen=True)
    num_frames: int | None = Field(None, ge=1, le=MAX_FRAMES)
    fps: float | None = Field(None, gt=0, le=60)


class ProcessorBounds(VideoBounds):
    """vLLM's `mm_processor_kwargs` and `media_io_kwargs`: a closed set of bounded names."""

    max_dynamic_patch: int | None = Field(None, ge=1, le=MAX_TILES)
    max_patches: int | None = Field(None, ge=1, le=MAX_TILES)
    video: VideoBounds | None = None


class ChatCompletionRequest(Wire):
    """POST /v1/chat/completions."""

    model: str | None = None
    messages: list[Message] = Field(min_length=1, max_length=512)
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: int | None = Field(None, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    min_tokens: int | None = Field(None, ge=0)
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, gt=0, le=1)
    top_k: int | None = Field(None, ge=-1)
    min_p: float | None = Field(None, ge=0, le=1)
    presence_penalty: float | None = Field(None, ge=-2, le=2)
    frequency_penalty: float | None = Field(None, ge=-2, le=2)
    repetition_penalty: float | None = Field(None, gt=0, le=2)
    seed: int | None = Field(None, ge=-(2**63), lt=2**63)
    stop: str | list[str] | None = None
    stop_token_ids: list[int] | None = Field(None, max_length=64)
    ignore_eos: bool | None = None
    n: int | None = None
    priority: int | None = Field(None, ge=-(2**31), lt=2**31)
    cache_salt: str | None = Field(None, max_length=256)
    user: str | None = None
    metadata: dict[str, Any] | None = None
    store: bool | None = None
    service_tier: str | None = None
    mm_processor_kwargs: ProcessorBounds | None = None
    media_io_kwargs: ProcessorBounds | None = None
