"""Around every request: its id and its access-log line. Plain ASGI."""

import logging
import re
import time
import uuid

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.http.paths import OPEN_PATHS

logger = logging.getLogger("server.access")
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
        scope.setdefault("state", {}).update(request_id=own_id, facts=facts, key_id="")
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
