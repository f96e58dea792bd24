"""Where the server stands between start and end. One owner of that state, one way through it."""

import asyncio
from contextlib import suppress
from enum import IntEnum

from starlette.types import Message, Receive

from server.errors import DrainingError


class State(IntEnum):
    """In order; there is no way back."""

    LOADING = 0  # the model
    SERVING = 1
    DRAINING = 2  # still serving, but says that it is not ready, so that nobody new is sent here
    CLOSED = 3  # new requests are refused, those inside are finished
    STOPPED = 4  # those still inside end with an error


class Lifecycle:
    """Owned by the event loop; signal handlers, which run between its steps, may advance it."""

    def __init__(self) -> None:
        self.state = State.LOADING
        self._stopped: asyncio.Future[None] | None = None

    @property
    def is_draining(self) -> bool:
        return self.state >= State.DRAINING

    @property
    def is_closed(self) -> bool:
        return self.state >= State.CLOSED

    def advance(self, state: State) -> None:
        """To `state`, unless it is past that already."""
        self.state = max(self.state, state)
        if self.state is State.STOPPED and self._stopped is not None:
            self._stopped.set_result(None)
            self._stopped = None

    async def receive(self, receive: Receive) -> Message:
        """What `receive` gives. Raises DrainingError into the request that still waits for it when
        the server stops."""
        if self.state is State.STOPPED:
            raise draining_error()
        stopped = self._stopped = self._stopped or asyncio.get_running_loop().create_future()
        message = asyncio.ensure_future(receive())
        try:
            await asyncio.wait((message, stopped), return_when=asyncio.FIRST_COMPLETED)
            if message.done():
                return message.result()
            raise draining_error()
        finally:
            if not message.done():
                message.cancel()
                with suppress(asyncio.CancelledError):
                    await message


def draining_error() -> DrainingError:
    return DrainingError("The server is ending. Try again: another one may answer.")
