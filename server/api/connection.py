"""The client's end of a request: its body under a limit, its going away, its event stream."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import aclosing, suppress
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from server.api.wire import error_body, event
from server.errors import ApiError, PayloadTooLargeError, UnsupportedMediaTypeError

SEND_TIMEOUT_S = 30.0  # a reader that takes nothing for so long is dropped

T = TypeVar("T")


class ClientGoneError(Exception):
    """The client left; nobody reads an answer."""


async def read_body(request: Request, max_bytes: int) -> bytes:
    """Raises PayloadTooLargeError as soon as the limit is passed, ClientGoneError."""
    _check_type(request)
    announced = request.headers.get("content-length", "")
    if announced.isdigit() and int(announced) > max_bytes:
        raise _too_large(max_bytes)
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > max_bytes:
                raise _too_large(max_bytes)
    except ClientDisconnect as error:
        raise ClientGoneError from error
    return bytes(body)


def _check_type(request: Request) -> None:
    kind, _, parameters = request.headers.get("content-type", "").lower().partition(";")
    charset = parameters.replace(" ", "").replace('"', "").removeprefix("charset=")
    if kind.strip() != "application/json" or charset not in ("", "utf-8", "utf8"):
        raise UnsupportedMediaTypeError(
            "The body must be JSON in UTF-8: send the header Content-Type: application/json."
        )
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise UnsupportedMediaTypeError(
            "Compressed bodies are not supported.", code="unsupported_encoding"
        )


async def until_gone(receive: Receive, work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`, which is cancelled when the client leaves (ClientGoneError), and when
    `receive` raises, as it does when the server stops.

    Starlette cancels neither a JSON handler nor, in time, a quiet stream.
    """
    worker = asyncio.create_task(work)
    watcher = asyncio.create_task(_wait_until_gone(receive))
    try:
        await asyncio.wait((worker, watcher), return_when=asyncio.FIRST_COMPLETED)
        if not worker.done():
            watcher.result()
            raise ClientGoneError
        return worker.result()
    finally:
        await _cancel(worker)
        await _cancel(watcher)


def error_event(error: ApiError) -> bytes:
    """OpenAI's form: the last event of a stream that failed."""
    return event(error_body(error))


class EventStreamResponse(Response):
    """Server-sent events. `on_end` is called exactly once, however the stream ends.

    When the server stops, the stream ends with an error event; `error_event` writes it.
    """

    media_type = "text/event-stream"

    def __init__(
        self,
        events: AsyncGenerator[bytes, None],
        on_end: Callable[[], None],
        error_event: Callable[[ApiError], bytes] = error_event,
    ) -> None:
        self.status_code = 200
        self.background = None
        self._events = events
        self._on_end = on_end
        self._error_event = error_event
        self._has_begun = False
        self.init_headers({"Cache-Control": "no-cache", "X-Accel-Buffering": "no"})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            async with aclosing(self._events):
                await self._answer(receive, send)
        except (ClientGoneError, OSError):  # TimeoutError of a stalled reader is an OSError
            return
        finally:
            self._on_end()

    async def _answer(self, receive: Receive, send: Send) -> None:
        try:
            await until_gone(receive, self._send_all(send))
        except ApiError as error:
            if not self._has_begun:
                raise
            await _send_part(send, self._error_event(error))
            await _send_part(send, b"", is_last=True)

    async def _send_all(self, send: Send) -> None:
        self._has_begun = True
        await send(
            {
                "type": "http.response.start",
                "status": self.status_code,
                "headers": self.raw_headers,
            }
        )
        async for part in self._events:
            await _send_part(send, part)
        await _send_part(send, b"", is_last=True)


async def _send_part(send: Send, part: bytes, *, is_last: bool = False) -> None:
    async with asyncio.timeout(SEND_TIMEOUT_S):
        await send({"type": "http.response.body", "body": part, "more_body": not is_last})


async def _wait_until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _cancel(task: "asyncio.Task[Any]") -> None:
    if not task.done():
        task.cancel()
        with suppress(asyncio.CancelledError, Exception):
            await task


def _too_large(max_bytes: int) -> PayloadTooLargeError:
    return PayloadTooLargeError(
        f"The request body exceeds {max_bytes >> 20} MiB. Send large media by URL instead."
    )
