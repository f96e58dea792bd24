"""Drops a client that has an answer to read and does not read it."""

import asyncio

from server.http.limits import HttpLimits


class ReaderWatch:
    """Of one connection. Watch only while nothing is written: then what is left to send tells
    what was read. An answer that is complete, or a stream that waits for its reader."""

    def __init__(self, limits: HttpLimits, loop: asyncio.AbstractEventLoop) -> None:
        self._seconds = limits.stall_timeout
        self._num_bytes_due = limits.stall_timeout * limits.min_read_rate
        self._loop = loop
        self._timer: asyncio.TimerHandle | None = None

    def watch(self, transport: asyncio.Transport) -> None:
        self.forget()
        left = transport.get_write_buffer_size()
        self._timer = self._loop.call_later(self._seconds, self._check, transport, left)

    def forget(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _check(self, transport: asyncio.Transport, num_bytes_before: int) -> None:
        left = transport.get_write_buffer_size()
        if left and num_bytes_before - left < self._num_bytes_due:
            transport.abort()
        elif left:
            self.watch(transport)
