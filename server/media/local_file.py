"""Reads `file:` URLs inside the one folder that the operator allowed. Runs off the event loop."""

import os
import stat
from pathlib import Path
from urllib.parse import unquote, urlsplit

from server.errors import MediaError
from server.media.types import MediaRequest
from server.media.url import has_forbidden, invalid_url


def read_local_file(request: MediaRequest, folder: str, max_bytes: int) -> bytes:
    """Raises MediaError: media_url_invalid, media_url_blocked, media_fetch_failed, media_too_large.

    The file is opened first and checked through its descriptor, so swapping it for a link in
    between changes nothing; devices and pipes never block.
    """
    path, root = _path(request), Path(folder).resolve()
    try:
        if not path.resolve().is_relative_to(root):
            raise _blocked(request.param)
        data = _read_inside(path, root, max_bytes)
    except (OSError, RuntimeError) as error:  # RuntimeError: links in a circle
        raise MediaError(
            "The file cannot be read.", param=request.param, code="media_fetch_failed"
        ) from error
    if data is None:
        raise _blocked(request.param)
    if len(data) > max_bytes:
        raise MediaError(
            f"The {request.kind} is larger than {max_bytes >> 20} MiB.",
            param=request.param,
            code="media_too_large",
        )
    return data


def _path(request: MediaRequest) -> Path:
    """Raises MediaError for what is no absolute path of this machine."""
    try:
        parts = urlsplit(request.url)
    except ValueError as error:
        raise invalid_url(request.param) from error
    path = unquote(parts.path)
    is_absolute = parts.path.startswith("/") and not parts.path.startswith("//")
    if parts.netloc or not is_absolute or has_forbidden(request.url) or "\0" in path:
        raise invalid_url(request.param)
    return Path(path)


def _read_inside(path: Path, root: Path, max_bytes: int) -> bytes | None:
    """One byte more than `max_bytes` at most; None for what is no file inside. Raises OSError."""
    if stat.S_ISSOCK(path.stat().st_mode):
        return None  # cannot even be opened
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not _is_regular_inside(fd, root):
            return None
        with open(fd, "rb", closefd=False) as file:
            return file.read(max_bytes + 1)
    finally:
        os.close(fd)


def _is_regular_inside(fd: int, root: Path) -> bool:
    real = Path(os.path.realpath(f"/proc/self/fd/{fd}"))
    is_of_the_kernel = real.is_relative_to("/proc") or real.is_relative_to("/sys")
    is_regular = stat.S_ISREG(os.fstat(fd).st_mode) and not is_of_the_kernel
    return is_regular and real.is_relative_to(root)


def _blocked(param: str) -> MediaError:
    return MediaError(
        "The file lies outside the folder that this server may read.",
        param=param,
        code="media_url_blocked",
    )
