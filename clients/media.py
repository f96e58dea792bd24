"""Local pictures and videos as data: URLs."""

import base64
import mimetypes
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clients.target import ClientError

MAX_FILE_BYTES = 64 << 20  # more makes requests that servers refuse; big files go by URL
_REMOTE = ("http://", "https://", "data:")


@dataclass(frozen=True, slots=True)
class Medium:
    """A picture or a video of a question."""

    kind: str  # image or video
    name: str  # what a person would call it
    url: str

    def part(self, num_frames: int | None = None) -> dict[str, Any]:
        """A content part. `num_frames` goes with videos only."""
        value: dict[str, Any] = {"url": self.url}
        if num_frames is not None and self.kind == "video":
            value["num_frames"] = num_frames
        return {"type": f"{self.kind}_url", f"{self.kind}_url": value}


def open_medium(kind: str, source: str) -> Medium:
    """`source`: a URL or a file. Raises ClientError when a file cannot be read."""
    if source.startswith(_REMOTE):
        name = source if len(source) < 200 else f"{source[:40]}…"
        return Medium(kind, name, source)
    return Medium(kind, source, file_url(kind, Path(source).expanduser()))


def is_remote(url: str) -> bool:
    return url.startswith(_REMOTE)


def file_url(kind: str, path: Path) -> str:
    """The data: URL of a file. Raises ClientError."""
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise _too_big(str(path))
        data = path.read_bytes()
    except OSError as error:
        raise ClientError(f"Cannot read {path}: {error.strerror}.") from error
    return _data_url(mimetypes.guess_type(path.name)[0] or f"{kind}/*", data)


def sniff(data: bytes) -> Medium | None:
    """A picture or video by its first bytes; None: something else. Raises ClientError."""
    media_type = _media_type(data)
    if media_type is None:
        return None
    if len(data) > MAX_FILE_BYTES:
        raise _too_big("the input")
    return Medium(media_type.split("/")[0], "standard input", _data_url(media_type, data))


def _media_type(data: bytes) -> str | None:
    starts = {
        b"\x89PNG\r\n\x1a\n": "image/png",
        b"\xff\xd8\xff": "image/jpeg",
        b"GIF8": "image/gif",
        b"II*\x00": "image/tiff",
        b"MM\x00*": "image/tiff",
        b"\x1aE\xdf\xa3": "video/webm",
        b"\x00\x00\x01\xba": "video/mpeg",
    }
    for start, media_type in starts.items():
        if data.startswith(start):
            return media_type
    return _riff_type(data) or _iso_type(data)


def _riff_type(data: bytes) -> str | None:
    forms = {b"WEBP": "image/webp", b"AVI ": "video/x-msvideo"}
    return forms.get(data[8:12]) if data.startswith(b"RIFF") else None


def _iso_type(data: bytes) -> str | None:
    """MP4 and its kin say in their first box what they are."""
    if data[4:8] != b"ftyp":
        return None
    brands = {b"avif": "image/avif", b"heic": "image/heic", b"mif1": "image/heic"}
    return brands.get(data[8:12], "video/mp4")


def _data_url(media_type: str, data: bytes) -> str:
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"


def _too_big(name: str) -> ClientError:
    limit = MAX_FILE_BYTES >> 20
    return ClientError(
        f"{name} is larger than {limit} MiB. Make it smaller, or give a URL the server can fetch."
    )
