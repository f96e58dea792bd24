"""uvicorn's server, ending our way: not ready, then closed, then finished, then cut with a word.

uvicorn's own end closes the door at once and cuts streams in silence.
"""

import asyncio
import logging
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import uvicorn

from server.lifecycle import Lifecycle, State

logger = logging.getLogger("server")
_TICK_S = 0.05
_LAST_WORDS_S = 2.0  # for the errors that tell of the end to be written


class DrainingServer(uvicorn.Server):
    """A first signal drains, a second one ends at once."""

    def __init__(
        self,
        config: uvicorn.Config,
        lifecycle: Lifecycle,
        *,
        drain_delay: float,
        shutdown_timeout: float,
    ) -> None:
        super().__init__(config)
        self._lifecycle = lifecycle
        self._drain_delay = drain_delay
        self._shutdown_timeout = shutdown_timeout
        self._is_hurried = False

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Unlike uvicorn's, they are not raised again at the end: we end as asked."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        signals = (signal.SIGINT, signal.SIGTERM)
        before = {number: signal.signal(number, self.handle_exit) for number in signals}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._is_hurried = self.should_exit
        if self._lifecycle.state is State.LOADING:  # nobody is waited for
            self._lifecycle.advance(State.CLOSED)
        self._lifecycle.advance(State.DRAINING)
        self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        if self._lifecycle.state is State.DRAINING:
            logger.info("draining: not ready, still serving for %gs", self._drain_delay)
            await self._wait(self._drain_delay, lambda: False)
        self._lifecycle.advance(State.CLOSED)
        logger.info("closed: finishing %d requests", len(self.server_state.tasks))
        await self._wait(self._shutdown_timeout, self._is_idle)
        self._lifecycle.advance(State.STOPPED)
        self._is_hurried = False
        await self._wait(_LAST_WORDS_S, self._is_idle)
        await super().shutdown(sockets)

    def _is_idle(self) -> bool:
        return not self.server_state.tasks

    async def _wait(self, seconds: float, is_over: Callable[[], bool]) -> None:
        deadline = asyncio.get_running_loop().time() + seconds
        while not (is_over() or self._is_hurried):
            left = deadline - asyncio.get_running_loop().time()
            if left <= 0:
                return
            await self.on_tick(0)  # keeps the Date header right
            await asyncio.sleep(min(_TICK_S, left))
