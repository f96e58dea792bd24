"""Wire request → domain, as pure functions: media requests, chat messages, sampling."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from model_runtime.checkpoint import GenerationDefaults, TileProcessing
from model_runtime.protocol import SamplingParams
from server.api.schemas import (
    ChatCompletionRequest,
    ImageContent,
    Message,
    ProcessorBounds,
    SamplingFields,
    TextContent,
    VideoContent,
)
from server.errors import InvalidRequestError, MediaError, NotFoundError
from server.media.types import MediaRequest, PlannedMedia
from server.prompt.types import CalledFunction, ChatMessage, Ending, MediaPart, TextPart
from server.settings import MediaLimits

T = TypeVar("T")
_GREEDY_BELOW = 1e-5  # dividing by less would overflow


@dataclass(frozen=True, slots=True)
class _Bounds:
    """Media bounds of the whole request, which a part may override."""

    max_tiles: int | None = None
    num_frames: int | None = None
    fps: float | None = None


def media_requests(
    request: ChatCompletionRequest, limits: MediaLimits, tiles: TileProcessing
) -> list[MediaRequest]:
    """The request's media parts in order. Raises InvalidRequestError beyond the limits."""
    bounds = _request_bounds(request)
    media = [
        _media_request(part, f"messages[{i}].content[{j}]", bounds, tiles)
        for i, message in enumerate(request.messages)
        for j, part in enumerate(message.parts)
        if not isinstance(part, TextContent)
    ]
    for kind, limit in (("image", limits.image), ("video", limits.video)):
        count = sum(item.kind == kind for item in media)
        if count > limit:
            raise MediaError(
                f"The request has {count} {kind}s; at most {limit} are allowed.",
                param="messages",
                code="media_too_many",
            )
    return [replace(item, cache_salt=request.cache_salt or "") for item in media]


def chat_messages(
    request: ChatCompletionRequest, media: Sequence[PlannedMedia]
) -> list[ChatMessage]:
    """The conversation with its media in their places."""
    planned = iter(media)
    return [_chat_message(message, planned) for message in request.messages]


def tools(request: ChatCompletionRequest) -> list[dict[str, Any]]:
    """As the client wrote them, for the prompt."""
    return [tool.model_dump(exclude_none=True) for tool in request.usable_tools]


def ending(request: ChatCompletionRequest) -> Ending:
    if request.continue_final_message:
        return "open"
    return "closed" if request.add_generation_prompt is False else "generation_prompt"


def sampling_params(
    request: SamplingFields,
    defaults: GenerationDefaults,
    room: int,
    bad_word_ids: Callable[[str], list[tuple[int, ...]]],
) -> SamplingParams:
    """The request's wishes over the checkpoint's defaults.

    `room` is the tokens that the context has left for the answer; more is clipped to it.
    """
    allowed = request.allowed_token_ids
    wanted = request.num_wanted_tokens or room
    return SamplingParams(
        max_tokens=min(wanted, room),
        temperature=_temperature(request, defaults),
        top_p=_or(request.top_p, defaults.top_p) or 1.0,
        top_k=max(0, _or(request.top_k, defaults.top_k)),
        min_p=_or(request.min_p, 0.0),
        presence_penalty=_or(request.presence_penalty, 0.0),
        frequency_penalty=_or(request.frequency_penalty, 0.0),
        repetition_penalty=_or(request.repetition_penalty, defaults.repetition_penalty),
        seed=request.seed,
        min_tokens=min(request.min_tokens or 0, room),
        ignore_eos=bool(request.ignore_eos),
        stop_token_ids=tuple(request.stop_token_ids or ()),
        logit_bias=tuple((int(token), bias) for token, bias in (request.logit_bias or {}).items()),
        logprobs=request.num_top_logprobs,
        prompt_logprobs=request.num_top_prompt_logprobs,
        bad_words=tuple(ids for word in request.bad_words or () for ids in bad_word_ids(word)),
        allowed_token_ids=None if allowed is None else tuple(allowed),
    )


def check_model(wanted: str | None, served: str) -> None:
    """Raises NotFoundError for another model than the one that is served."""
    if wanted is not None and wanted != served:
        raise NotFoundError(
            f"The model {wanted[:100]!r} does not exist. This server has {served!r}.",
            param="model",
            code="model_not_found",
        )


def check_token_ids(request: SamplingFields, vocab_size: int) -> None:
    """Every index that reaches the worker is checked here."""
    named = {
        "stop_token_ids[{}]": request.stop_token_ids or (),
        "allowed_token_ids[{}]": request.allowed_token_ids or (),
        "logit_bias": map(int, request.logit_bias or ()),
    }
    for name, token_ids in named.items():
        for index, token_id in enumerate(token_ids):
            if not 0 <= token_id < vocab_size:
                raise InvalidRequestError(
                    f"Token ids lie between 0 and {vocab_size - 1}.",
                    param=name.format(index),
                    code="invalid_value",
                )


def _temperature(request: SamplingFields, defaults: GenerationDefaults) -> float:
    """A `top_p` of 0 leaves one token, which is greedy too."""
    if request.top_p == 0:
        return 0.0
    temperature = _or(request.temperature, defaults.temperature)
    return temperature if temperature >= _GREEDY_BELOW else 0.0


def _or(value: T | None, default: T) -> T:
    return default if value is None else value


def _media_request(
    part: ImageContent | VideoContent, path: str, bounds: _Bounds, tiles: TileProcessing
) -> MediaRequest:
    if isinstance(part, ImageContent):
        return _image_request(part, path, bounds, tiles)
    video = part.video_url
    own = video.num_frames is not None or video.fps is not None
    return MediaRequest(
        "video",
        video.url,
        f"{path}.video_url.url",
        num_frames=video.num_frames if own else bounds.num_frames,
        fps=video.fps if own else bounds.fps,
        start_s=video.start,
        end_s=video.end,
    )


def _image_request(
    part: ImageContent, path: str, bounds: _Bounds, tiles: TileProcessing
) -> MediaRequest:
    image = part.image_url
    max_tiles = image.max_dynamic_patch
    if max_tiles is None:
        by_detail = {"low": 1, "high": tiles.max_tiles}
        max_tiles = by_detail.get(image.detail or part.detail or "auto", bounds.max_tiles)
    if max_tiles is not None and max_tiles > tiles.max_tiles:
        raise InvalidRequestError(
            f"max_dynamic_patch is at most {tiles.max_tiles} for this model.",
            param=f"{path}.image_url.max_dynamic_patch",
            code="invalid_value",
        )
    return MediaRequest("image", image.url, f"{path}.image_url.url", max_tiles=max_tiles)


def _request_bounds(request: ChatCompletionRequest) -> _Bounds:
    """vLLM's request-wide names; the part's own win over them."""
    given = [b for b in (request.mm_processor_kwargs, request.media_io_kwargs) if b is not None]
    bounds = _Bounds()
    for each in given:
        video = each.video or each
        bounds = _Bounds(
            max_tiles=_max_tiles(each) or bounds.max_tiles,
            num_frames=video.num_frames or bounds.num_frames,
            fps=video.fps or bounds.fps,
        )
    return bounds


def _max_tiles(bounds: ProcessorBounds) -> int | None:
    return bounds.max_dynamic_patch or bounds.max_patches


def _chat_message(message: Message, planned: Iterator[PlannedMedia]) -> ChatMessage:
    """`developer` is OpenAI's newer word for system."""
    parts = [
        TextPart(part.text) if isinstance(part, TextContent) else MediaPart(next(planned))
        for part in message.parts
    ]
    role = "system" if message.role == "developer" else message.role
    calls = [
        CalledFunction(call.function.name, call.function.arguments)
        for call in message.tool_calls or ()
    ]
    return ChatMessage(role, parts, calls)
