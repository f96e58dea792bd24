"""Around every request: its id, its log line and its span. Plain ASGI."""

import re
import time
import uuid

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.http.paths import OPEN_PATHS
from server.logs import RequestLine, log_request
from server.tracing import Tracer, describe

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
        started, status = time.monotonic(), 499  # 499: the client left before an answer
        scope.setdefault("state", {}).update(
            request_id=own_id, facts=facts, key_id="", arrived_s=started
        )

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


def _route(scope: Scope) -> str:
    """The route's template: a path may hold whatever a client wrote."""
    return getattr(scope.get("route"), "path", "(no route)")
