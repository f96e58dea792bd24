"""Around every request: its id, its access-log line, its key. Plain ASGI."""

import hashlib
import hmac
import logging
import re
import time
import uuid

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.api.error_answers import error_answer
from server.api.messages.errors import is_messages_path
from server.errors import AuthenticationError

logger = logging.getLogger("server.access")
OPEN_PATHS = frozenset({"/livez", "/readyz", "/health", "/metrics"})
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")


class RequestContext:
    """Gives each request an id (the client's own, when sane) and logs one line at its end.

    The id that the engine uses is always ours: two clients may send the same header.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        own_id = uuid.uuid4().hex
        given = Headers(scope=scope).get("x-request-id", "")
        shown_id = given if _REQUEST_ID.fullmatch(given) else own_id
        facts: dict[str, object] = {}
        scope.setdefault("state", {}).update(request_id=own_id, facts=facts)
        started, status = time.monotonic(), 499  # 499: the client left before an answer

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["x-request-id"] = shown_id
            await send(message)

        try:
            await self._app(scope, receive, send_with_id)
        finally:
            _log(scope, shown_id, status, time.monotonic() - started, facts)


class KeyCheck:
    """Every route but health and metrics needs one of the keys."""

    def __init__(self, app: ASGIApp, keys: tuple[str, ...]) -> None:
        self._app = app
        self._digests = [_digest(key) for key in keys]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in OPEN_PATHS or scope["method"] == "OPTIONS":
            await self._app(scope, receive, send)
        elif self._is_known(_keys(scope)):
            await self._app(scope, receive, send)
        else:
            error = AuthenticationError("Send a valid key: Authorization: Bearer YOUR_KEY.")
            await error_answer(scope["path"], error)(scope, receive, send)

    def _is_known(self, keys: list[str]) -> bool:
        """Digests of equal length, all compared: time tells nothing about the keys."""
        digest = _digest("".join(keys))
        matches = [hmac.compare_digest(digest, known) for known in self._digests]
        return len(keys) == 1 and keys != [""] and any(matches)


def _keys(scope: Scope) -> list[str]:
    """What the request says its key is. Anthropic's clients may send it in a header of its own."""
    headers = Headers(scope=scope)
    keys = [_bearer(header) for header in headers.getlist("authorization")]
    if not keys and is_messages_path(scope["path"]):
        keys = headers.getlist("x-api-key")
    return keys


def _bearer(header: str) -> str:
    """Empty for another scheme."""
    scheme, _, key = header.partition(" ")
    return key if scheme.lower() == "bearer" else ""


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()


def _log(
    scope: Scope, request_id: str, status: int, seconds: float, facts: dict[str, object]
) -> None:
    if scope["path"] in OPEN_PATHS:  # probes would drown the rest
        return
    details = " ".join(f"{name}={value}" for name, value in facts.items())
    route = scope.get("route")
    path = getattr(route, "path", "(no route)")
    logger.info(
        "%s %s %s %.3fs id=%s %s", scope["method"], path, status, seconds, request_id, details
    )
