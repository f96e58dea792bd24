"""The web page at `/`: the files of the package `clients.web`, sent as they are.

Nothing in them is secret, so they need no key; what the page then asks of the API does. It runs
under a policy that lets it load nothing from elsewhere and send nothing anywhere else.
"""

import hashlib
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from mimetypes import guess_type

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response

from server.errors import NotFoundError
from server.http.paths import PAGE_FILES, PAGE_PATH

_PACKAGE = "clients.web"
_TYPES = {
    ".js": "text/javascript",
    ".css": "text/css",
    ".svg": "image/svg+xml",
    ".LICENSE": "text/plain",
}
_POLICY = {
    "default-src": "'none'",
    "script-src": "'self'",
    "style-src": "'self'",
    "img-src": "'self' data: blob:",
    "media-src": "'self' data: blob:",
    "connect-src": "'self'",
    "base-uri": "'none'",
    "form-action": "'none'",
    "frame-ancestors": "'none'",
}
_HEADERS = {
    "Content-Security-Policy": "; ".join(f"{name} {what}" for name, what in _POLICY.items()),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-cache",
}


@dataclass(frozen=True, slots=True)
class _File:
    content: bytes
    media_type: str
    tag: str


def add_page(app: FastAPI) -> None:
    """Everything is read now: no path that a client sends ever reaches the disk."""
    found = dict(_read(files(_PACKAGE)))

    async def page(request: Request) -> Response:
        return _answer(request, found["index.html"])

    async def page_file(request: Request) -> Response:
        file = found.get(request.path_params["name"])
        if file is None:
            raise NotFoundError("There is no such route.")
        return _answer(request, file)

    app.add_api_route(PAGE_PATH, page, include_in_schema=False)
    app.add_api_route(f"{PAGE_FILES}{{name:path}}", page_file, include_in_schema=False)


def _read(folder: Traversable, prefix: str = "") -> list[tuple[str, _File]]:
    found: list[tuple[str, _File]] = []
    for entry in folder.iterdir():
        if entry.is_dir():
            found += _read(entry, f"{prefix}{entry.name}/")
        elif not entry.name.endswith((".py", ".pyc")):
            found.append((prefix + entry.name, _file(entry.name, entry.read_bytes())))
    return found


def _file(name: str, content: bytes) -> _File:
    kind = _TYPES.get(name[name.rindex(".") :]) or guess_type(name)[0] or "application/octet-stream"
    return _File(content, kind, f'"{hashlib.sha256(content).hexdigest()[:32]}"')


def _answer(request: Request, file: _File) -> Response:
    headers = {**_HEADERS, "ETag": file.tag}
    if request.headers.get("if-none-match") == file.tag:
        return Response(status_code=304, headers=headers)
    return Response(file.content, headers=headers, media_type=file.media_type)
