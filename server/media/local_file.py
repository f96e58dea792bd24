"""Reads `file:` URLs inside the one folder that the operator allowed. Runs off the event loop."""

import os
import stat
from pathlib import Path
from urllib.parse import unquote, urlsplit

from server.errors import MediaError
from server.media.types import MediaRequest
from server.media.url import invalid_url


def read_local_file(request: MediaRequest, folder: str, max_bytes: int) -> bytes:
    """Raises MediaError: media_url_invalid, media_url_blocked, media_fetch_failed, media_too_large.

    The file is opened first and checked through its descriptor, so swapping it for a link in
    between changes nothing; devices and pipes never block.
    """
    parts = urlsplit(request.url)
    if parts.netloc or not parts.path.startswith("/") or parts.path.startswith("//"):
        raise invalid_url(request.param)
    path, root = Path(unquote(parts.path)), Path(folder).resolve()
    if "\0" in str(path) or not path.resolve().is_relative_to(root):
        raise _blocked(request.param)
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise MediaError(
            "The file cannot be read.", param=request.param, code="media_fetch_failed"
        ) from error
    try:
        if not _is_regular_inside(fd, root):
            raise _blocked(request.param)
        with open(fd, "rb", closefd=False) as file:
            data = file.read(max_bytes + 1)
    finally:
        os.close(fd)
    if len(data) > max_bytes:
        raise MediaError(
            f"The {request.kind} is larger than {max_bytes >> 20} MiB.",
            param=request.param,
            code="media_too_large",
        )
    return data


def _is_regular_inside(fd: int, root: Path) -> bool:
    real = Path(os.path.realpath(f"/proc/self/fd/{fd}"))
    return stat.S_ISREG(os.fstat(fd).st_mode) and real.is_relative_to(root)


def _blocked(param: str) -> MediaError:
    return MediaError(
        "The file lies outside the folder that this server may read.",
        param=param,
        code="media_url_blocked",
    )
