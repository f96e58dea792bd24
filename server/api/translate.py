"""Wire request → domain, as pure functions: media requests, chat messages, sampling."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeVar

from model_runtime.checkpoint import GenerationDefaults, TileProcessing
from model_runtime.protocol import SamplingParams
from server.api.schemas import (
    ChatCompletionRequest,
    ImageContent,
    Message,
    ProcessorBounds,
    TextContent,
    VideoContent,
)
from server.errors import InvalidRequestError
from server.media.types import LoadedMedia, MediaRequest
from server.prompt.types import ChatMessage, MediaPart, TextPart
from server.settings import MediaLimits

T = TypeVar("T")
_DETAIL_TILES = {"low": 1, "high": None, "auto": None}  # None: the checkpoint's maximum


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
        for j, part in _media_parts(message, i)
    ]
    for kind, limit in (("image", limits.image), ("video", limits.video)):
        count = sum(item.kind == kind for item in media)
        if count > limit:
            raise InvalidRequestError(
                f"The request has {count} {kind}s; at most {limit} are allowed.",
                param="messages",
                code="too_many_media",
            )
    return media


def chat_messages(request: ChatCompletionRequest, media: list[LoadedMedia]) -> list[ChatMessage]:
    """The conversation with its loaded media in their places."""
    loaded = iter(media)
    return [_chat_message(message, index, loaded) for index, message in enumerate(request.messages)]


def sampling_params(
    request: ChatCompletionRequest, defaults: GenerationDefaults, room: int
) -> SamplingParams:
    """The request's wishes over the checkpoint's defaults.

    `room` is the tokens that the context has left for the answer; more is clipped to it.
    """
    wanted = request.max_completion_tokens or request.max_tokens or room
    return SamplingParams(
        max_tokens=min(wanted, room),
        temperature=_or(request.temperature, defaults.temperature),
        top_p=_or(request.top_p, defaults.top_p),
        top_k=max(0, _or(request.top_k, defaults.top_k)),
        min_p=_or(request.min_p, 0.0),
        presence_penalty=_or(request.presence_penalty, 0.0),
        frequency_penalty=_or(request.frequency_penalty, 0.0),
        repetition_penalty=_or(request.repetition_penalty, defaults.repetition_penalty),
        seed=request.seed,
        min_tokens=min(request.min_tokens or 0, room),
        ignore_eos=bool(request.ignore_eos),
        stop_token_ids=tuple(request.stop_token_ids or ()),
    )


def stop_strings(request: ChatCompletionRequest) -> tuple[str, ...]:
    return (request.stop,) if isinstance(request.stop, str) else tuple(request.stop or ())


def _or(value: T | None, default: T) -> T:
    return default if value is None else value


def _media_parts(message: Message, index: int) -> Iterator[tuple[int, ImageContent | VideoContent]]:
    if isinstance(message.content, list):
        for j, part in enumerate(message.content):
            if isinstance(part, TextContent):
                continue
            if message.role != "user":
                raise InvalidRequestError(
                    "Only user messages may have images and videos.",
                    param=f"messages[{index}].content[{j}]",
                )
            yield j, part


def _media_request(
    part: ImageContent | VideoContent, path: str, bounds: _Bounds, tiles: TileProcessing
) -> MediaRequest:
    if isinstance(part, ImageContent):
        return _image_request(part, path, bounds, tiles)
    video = part.video_url
    if video.num_frames is not None and video.fps is not None:
        raise InvalidRequestError(
            "num_frames and fps exclude each other.", param=f"{path}.video_url.fps"
        )
    own = video.num_frames is not None or video.fps is not None
    return MediaRequest(
        "video",
        video.url,
        f"{path}.video_url.url",
        num_frames=video.num_frames if own else bounds.num_frames,
        fps=video.fps if own else bounds.fps,
    )


def _image_request(
    part: ImageContent, path: str, bounds: _Bounds, tiles: TileProcessing
) -> MediaRequest:
    image = part.image_url
    max_tiles = image.max_dynamic_patch
    if max_tiles is None:
        max_tiles = _DETAIL_TILES[part.detail or image.detail] or bounds.max_tiles
    if max_tiles is not None and max_tiles > tiles.max_tiles:
        raise InvalidRequestError(
            f"max_dynamic_patch is at most {tiles.max_tiles} for this model.",
            param=f"{path}.image_url.max_dynamic_patch",
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


def _chat_message(message: Message, index: int, loaded: Iterator[LoadedMedia]) -> ChatMessage:
    role = "system" if message.role == "developer" else message.role
    if message.content is None:
        if role != "assistant":
            raise InvalidRequestError("content is missing.", param=f"messages[{index}].content")
        return ChatMessage(role, [])
    if isinstance(message.content, str):
        return ChatMessage(role, [TextPart(message.content)])
    parts = [
        TextPart(part.text) if isinstance(part, TextContent) else MediaPart(next(loaded))
        for part in message.content
    ]
    return ChatMessage(role, parts)
