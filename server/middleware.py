"""Around every request: its id, its log line and span, its key. Plain ASGI."""

import hashlib
import hmac
import re
import time
import uuid

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.api.wire import error_body
from server.errors import AuthenticationError
from server.logs import RequestLine, log_request
from server.tracing import Tracer, describe

OPEN_PATHS = frozenset({"/livez", "/readyz", "/health", "/metrics"})
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")


class RequestContext:
    """Gives each request an id (the client's own, when sane), a log line and a span.

    The id that the engine uses is always ours: two clients may send the same header.
    """

    def __init__(self, app: ASGIApp, tracer: Tracer, model_name: str) -> None:
        self._app = app
        self._tracer = tracer
        self._model_name = model_name

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

        if scope["path"] in OPEN_PATHS:  # probes would drown the rest
            await self._app(scope, receive, send_with_id)
            return
        with self._tracer.request(Headers(scope=scope)) as span:
            try:
                await self._app(scope, receive, send_with_id)
            except Exception:
                status = 500  # a bug: it is answered further out
                raise
            finally:
                seconds = time.monotonic() - started
                line = RequestLine(
                    shown_id, scope["method"], _route(scope), status, seconds, self._told(facts)
                )
                log_request(line)
                describe(span, line)

    def _told(self, facts: dict[str, object]) -> dict[str, object]:
        """With the model's name, when the request came as far as the model."""
        return {"model": self._model_name, **facts} if "prompt_tokens" in facts else facts


class KeyCheck:
    """Every route but health and metrics needs one of the keys."""

    def __init__(self, app: ASGIApp, keys: tuple[str, ...]) -> None:
        self._app = app
        self._digests = [_digest(key) for key in keys]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in OPEN_PATHS or scope["method"] == "OPTIONS":
            await self._app(scope, receive, send)
        elif self._is_known(Headers(scope=scope).getlist("authorization")):
            await self._app(scope, receive, send)
        else:
            error = AuthenticationError("Send a valid key: Authorization: Bearer YOUR_KEY.")
            scope["state"]["facts"]["error"] = error.code
            response = JSONResponse(error_body(error), error.status, error.headers)
            await response(scope, receive, send)

    def _is_known(self, headers: list[str]) -> bool:
        """Digests of equal length, all compared: time tells nothing about the keys."""
        scheme, _, key = (headers[0] if len(headers) == 1 else "").partition(" ")
        digest = _digest(key)
        matches = [hmac.compare_digest(digest, known) for known in self._digests]
        return scheme.lower() == "bearer" and any(matches)


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()


def _route(scope: Scope) -> str:
    """The route's template: a path may hold whatever a client wrote."""
    return getattr(scope.get("route"), "path", "(no route)")
