"""uvicorn's HTTP protocol, with deadlines, limits and refusals in the API's error shape.

It leans on uvicorn's internals (`cycle`, `pipeline`, `flow`); the tests of this folder speak
raw bytes to a real server, so that an upgrade that moves them is noticed.
"""

import asyncio
import logging
from collections.abc import Callable
from enum import Enum
from socket import SO_SNDBUF, SOL_SOCKET
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from server.errors import ApiError, HeadersTooLargeError, InvalidRequestError, OverloadedError
from server.http.head import check_head, has_no_version, unreadable, values_of
from server.http.limits import HttpLimits
from server.http.reader_watch import ReaderWatch
from server.http.refusal import raw_answer

logger = logging.getLogger("server.access")


class Phase(Enum):
    """What the next byte belongs to."""

    IDLE = "nothing yet"
    HEAD = "request line and headers"
    BODY = "body"


class GuardedProtocol(HttpToolsProtocol):
    """One connection. A refused one answers once, and hears no more."""

    def __init__(self, *, limits: HttpLimits, **options: Any) -> None:
        super().__init__(**options)
        self._limits = limits
        self._phase = Phase.IDLE
        self._num_head_bytes = self._num_head_lines = 0
        self._num_body_bytes = self._num_silent_bytes = 0
        self._body_bytes_due = 0
        self._body_started = 0.0
        self._running: RequestResponseCycle | None = None
        self._is_surplus = self._is_deaf = False
        self._deadline: asyncio.TimerHandle | None = None
        self._reader = ReaderWatch(limits, self.loop)

    # ------------------------------------------------------------------ the connection

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if own_socket := transport.get_extra_info("socket"):
            own_socket.setsockopt(SOL_SOCKET, SO_SNDBUF, self._limits.send_buffer)
        num_others, allowed = len(self.connections) - 1, self._limits.max_connections
        if num_others >= 2 * allowed:
            transport.abort()
        elif num_others >= allowed:  # told so when it asks
            self._is_surplus = True
            self._arm(self._limits.linger_timeout, transport.abort)
        else:
            self._arm(self._limits.head_timeout, self._head_is_late)

    def connection_lost(self, exc: Exception | None) -> None:
        self._disarm()
        self._reader.forget()
        for cycle in (self._running, *(cycle for cycle, _ in self.pipeline)):
            if cycle is not None and not cycle.response_complete:
                cycle.disconnected = True
                cycle.message_event.set()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        if self._is_deaf:
            return
        if self._phase is Phase.IDLE and self._deadline is None:
            self._arm(self._limits.head_timeout, self._head_is_late)
        if self._is_surplus:
            self._refuse(OverloadedError("Too many connections. Try again soon."))
        elif self._phase is Phase.IDLE and has_no_version(data):
            self._refuse(unreadable(b""))
        else:
            self._feed(data)

    def _feed(self, data: bytes) -> None:
        self._num_silent_bytes += len(data)  # a callback sets it to 0
        try:
            self.parser.feed_data(data)
            self._check_silence()
        except ApiError as error:
            self._refuse(error)
        except httptools.HttpParserCallbackError as error:
            cause = error.__context__
            self._refuse(cause if isinstance(cause, ApiError) else unreadable(b""))
        except httptools.HttpParserInvalidMethodError:
            self._refuse(unreadable(data))
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._refuse(unreadable(b""))

    def _check_silence(self) -> None:
        """A header without an end is kept by the parser; a chunk's extension passes unseen."""
        if self._phase is Phase.HEAD and self._num_silent_bytes > self._limits.max_head_bytes:
            raise _head_too_large(self._limits)
        if self._phase is Phase.BODY and self._num_silent_bytes > self._limits.max_framing_bytes:
            raise InvalidRequestError("The body's chunks have too much around them.")

    # ------------------------------------------------------------------ the parser's callbacks

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._phase = Phase.HEAD
        self._num_head_bytes = self._num_head_lines = self._num_silent_bytes = 0

    def on_url(self, url: bytes) -> None:
        self._count_head(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._num_head_lines += 1
        self._count_head(len(name) + len(value) + 4)
        if self._phase is Phase.HEAD:  # a trailer must not pass for a header
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        version, headers = self.parser.get_http_version(), self.headers
        check_head(version, self.parser.get_method(), self.url, headers)
        super().on_headers_complete()
        if version == "1.0":
            _end_by_close(self.cycle)
        self._phase = Phase.BODY
        self._num_body_bytes = self._num_silent_bytes = 0
        self._body_bytes_due = int((values_of(headers, b"content-length") or [b"0"])[0])
        self._body_started = self.loop.time()
        self._arm(self._body_seconds(), self._body_is_late)

    def on_body(self, body: bytes) -> None:
        self._num_body_bytes += len(body)
        self._num_silent_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._phase = Phase.IDLE
        self._disarm()
        super().on_message_complete()

    def _count_head(self, num_bytes: int) -> None:
        self._num_silent_bytes = 0
        self._num_head_bytes += num_bytes
        limits = self._limits
        too_long = self._num_head_bytes > limits.max_head_bytes
        if too_long or self._num_head_lines > limits.max_head_lines:
            raise _head_too_large(limits)

    # ------------------------------------------------------------------ deadlines

    def _arm(self, seconds: float, act: Callable[[], None]) -> None:
        self._disarm()
        self._deadline = self.loop.call_later(seconds, act)

    def _disarm(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _head_is_late(self) -> None:
        self._too_late(self._head_is_late)

    def _body_is_late(self) -> None:
        left = self._body_started + self._body_seconds() - self.loop.time()
        if left > 0:  # chunks: it grew meanwhile
            self._arm(left, self._body_is_late)
        else:
            self._too_late(self._body_is_late)

    def _body_seconds(self) -> float:
        num_bytes = max(self._body_bytes_due, self._num_body_bytes)
        return self._limits.body_timeout + num_bytes / self._limits.min_body_rate

    def _too_late(self, ask_again: Callable[[], None]) -> None:
        """Nothing is said to whoever drips. Whom we do not listen to is not late, and an answer
        that is under way is finished."""
        if self.flow.read_paused:
            self._arm(self._limits.linger_timeout, ask_again)
        elif self._is_answering and not self._is_broken_request_running:
            self._close_after_answer()
        else:
            self.transport.abort()

    # ------------------------------------------------------------------ answers

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._running = cycle
        if not self.flow.write_paused:
            self._reader.forget()
        super()._start_asgi_task(cycle, app)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if not self.flow.write_paused and self.transport.get_write_buffer_size():
            self._reader.watch(self.transport)

    @property
    def _is_answering(self) -> bool:
        return self._running is not None and not self._running.response_complete

    @property
    def _is_broken_request_running(self) -> bool:
        """Rather than being read while an earlier one is answered."""
        return (
            self._running is self.cycle
            and self._phase is Phase.BODY
            and not self.cycle.response_started
        )

    def _refuse(self, error: ApiError) -> None:
        """Say why and hear no more, without breaking into an answer that is under way."""
        logger.info("refused a request: %s %s", error.status.value, error.code)
        if not self._is_answering:
            self._answer_and_close(error)
        elif self._is_broken_request_running:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
            self._answer_and_close(error)
        else:
            self._close_after_answer()

    def _close_after_answer(self) -> None:
        self._is_deaf = True
        self._disarm()
        assert self._running is not None
        self._running.keep_alive = False

    def _answer_and_close(self, error: ApiError) -> None:
        """What the client still sends is read for a while: closing at once would reset the
        connection and could take the answer away from it."""
        self._is_deaf = True
        self.transport.write(raw_answer(error))
        if self.transport.can_write_eof():
            self.transport.write_eof()
            self._arm(self._limits.linger_timeout, self.transport.abort)
        else:
            self.transport.close()

    # ------------------------------------------------------------------ slow readers

    def pause_writing(self) -> None:
        super().pause_writing()
        self._reader.watch(self.transport)

    def resume_writing(self) -> None:
        self._reader.forget()
        super().resume_writing()


def _end_by_close(cycle: RequestResponseCycle) -> None:
    """HTTP/1.0 knows no chunks: whatever is sent is the body, until the connection closes."""
    send = cycle.send
    cycle.chunked_encoding = False

    async def send_plainly(message: Any) -> None:
        cycle.expected_content_length = len(message.get("body", b""))
        await send(message)

    cycle.send = send_plainly  # type: ignore[method-assign]


def _head_too_large(limits: HttpLimits) -> HeadersTooLargeError:
    return HeadersTooLargeError(
        f"The request line and headers may have {limits.max_head_lines} lines and "
        f"{limits.max_head_bytes >> 10} KiB."
    )
