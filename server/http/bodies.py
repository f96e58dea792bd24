"""Bytes of request bodies held by the whole process. Plain ASGI."""

from collections.abc import Callable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.errors import OverloadedError
from server.http.head import values_of


class BodyBudget:
    """Takes the announced length when a body begins to be read, and what comes without
    announcement as it comes; gives it back when the request ends, because media in a body is
    kept until then. Raises OverloadedError into whoever reads."""

    def __init__(self, app: ASGIApp, max_bytes: int, on_refusal: Callable[[str], None]) -> None:
        self._app = app
        self._max_bytes = max_bytes
        self._on_refusal = on_refusal
        self._num_bytes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        lengths = values_of(scope["headers"], b"content-length")
        announced = int(lengths[0]) if lengths else 0
        taken = come = 0

        async def receive_counted() -> Message:
            nonlocal taken, come
            taken += self._take(announced - taken)
            message = await receive()
            come += len(message.get("body", b""))
            taken += self._take(come - taken)
            return message

        try:
            await self._app(scope, receive_counted, send)
        finally:
            self._num_bytes -= taken

    def _take(self, num_bytes: int) -> int:
        if num_bytes <= 0:
            return 0
        if self._num_bytes + num_bytes > self._max_bytes:
            self._on_refusal("body_bytes")
            raise OverloadedError("The server holds too many large requests. Try again soon.")
        self._num_bytes += num_bytes
        return num_bytes
