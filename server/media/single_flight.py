"""Work that several requests want at the same time, done once."""

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from server.errors import MediaError

T = TypeVar("T")
Work = Callable[[], Coroutine[Any, Any, T]]


@dataclass(slots=True)
class _Flight(Generic[T]):
    task: asyncio.Task[T]
    num_waiters: int = 0


class SingleFlight(Generic[T]):
    """Results are not kept: who comes after the end begins anew."""

    def __init__(self) -> None:
        self._flights: dict[Hashable, _Flight[T]] = {}

    async def run(self, key: Hashable, work: Work[T], param: str) -> T:
        """The work's result. Raises MediaError that names this waiter's `param`.

        The work goes on as long as anybody waits for it.
        """
        flight = self._flights.get(key)
        if flight is None:
            flight = self._flights[key] = _Flight(asyncio.create_task(work()))
            flight.task.add_done_callback(lambda _: self._forget(key, flight))
        flight.num_waiters += 1
        try:
            return await asyncio.shield(flight.task)
        except MediaError as error:
            raise MediaError(error.message, param=param, code=error.code) from error
        finally:
            flight.num_waiters -= 1
            if not flight.num_waiters and not flight.task.done():
                self._forget(key, flight)
                flight.task.cancel()

    def _forget(self, key: Hashable, flight: _Flight[T]) -> None:
        """A cancelled flight may have a successor by now."""
        if self._flights.get(key) is flight:
            del self._flights[key]
