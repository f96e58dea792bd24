"""Reads `data:` URLs: sizes are checked before base64 is decoded. Pure functions."""

import base64
import binascii

from server.errors import MediaError
from server.media.types import MediaRequest
from server.media.url import invalid_url

_FRAME_LIST_TYPES = ("video/jpeg", "video/png")


def read_data_url(request: MediaRequest, max_bytes: int, max_frames: int) -> list[bytes]:
    """The bytes of the URL; several for a frame list `data:video/jpeg;base64,f1,f2,...`.

    Raises MediaError: media_url_invalid, media_unsupported_type, media_too_large.
    """
    start, head, comma, payload = _parts(request.url)
    media_type, *parameters = (part.strip().lower() for part in head.split(";"))
    if start != "data:" or not comma:
        raise invalid_url(request.param)
    _check_type(media_type if head else "text/plain", request)
    if not parameters or parameters[-1] != "base64":
        raise invalid_url(request.param)
    is_frame_list = media_type in _FRAME_LIST_TYPES
    parts = payload.split(",") if is_frame_list else [payload]
    if len(parts) > max_frames:
        raise MediaError(
            f"The video has more than {max_frames} frames.",
            param=request.param,
            code="media_too_complex",
        )
    if len(payload) // 4 * 3 > max_bytes:
        raise MediaError(
            f"The {request.kind} is larger than {max_bytes >> 20} MiB.",
            param=request.param,
            code="media_too_large",
        )
    return [_decode(part, request.param) for part in parts]


def is_frame_list(url: str) -> bool:
    return url[:64].lower().startswith(tuple(f"data:{t};" for t in _FRAME_LIST_TYPES))


def _parts(url: str) -> tuple[str, str, str, str]:
    head, comma, payload = url.partition(",")
    return head[:5].lower(), head[5:], comma, payload


def _check_type(media_type: str, request: MediaRequest) -> None:
    """`image/...` in an image part, `video/...` in a video part; untyped is taken on trust."""
    if media_type and media_type.split("/")[0] not in (request.kind, "application"):
        raise MediaError(
            f"The data URL's type is not {request.kind}/….",
            param=request.param,
            code="media_unsupported_type",
        )


def _decode(payload: str, param: str) -> bytes:
    """Strict base64: the standard alphabet, right padding, no white space."""
    try:
        data = base64.b64decode(payload, validate=True)
    except (binascii.Error, ValueError) as error:
        raise invalid_url(param) from error
    if not data or len(payload) % 4:
        raise invalid_url(param)
    return data
