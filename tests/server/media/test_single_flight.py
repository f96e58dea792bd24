"""Work shared by who waits for it."""

import asyncio

from server.errors import MediaError
from server.media.single_flight import SingleFlight

Flights = SingleFlight[int]


class Work:
    """A piece of work that waits to be let go; counts how often it began."""

    def __init__(self, result: int | Exception) -> None:
        self.num_begun = 0
        self.was_cancelled = False
        self.may_end = asyncio.Event()
        self._result = result

    async def __call__(self) -> int:
        self.num_begun += 1
        try:
            await self.may_end.wait()
        except asyncio.CancelledError:
            self.was_cancelled = True
            raise
        if isinstance(self._result, Exception):
            raise self._result
        return self._result


async def begin(flights: Flights, work: Work, param: str = "p") -> asyncio.Task[int]:
    task = asyncio.create_task(flights.run("k", work, param))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    return task


async def test_waiters_share_one_piece_of_work() -> None:
    flights, work = Flights(), Work(10)
    first, second = await begin(flights, work), await begin(flights, work)
    first.cancel()  # the other still waits
    await asyncio.sleep(0)
    work.may_end.set()
    assert await second == 10
    assert work.num_begun == 1 and not work.was_cancelled
    assert not flights._flights


async def test_work_that_nobody_waits_for_is_cancelled_and_can_be_begun_again() -> None:
    flights, work = Flights(), Work(10)
    tasks = [await begin(flights, work), await begin(flights, work)]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await asyncio.sleep(0)
    assert work.was_cancelled
    again = Work(10)
    task = await begin(flights, again)
    again.may_end.set()
    assert await task == 10


async def test_a_failure_names_each_waiters_field_and_is_forgotten() -> None:
    flights, work = Flights(), Work(MediaError("bad", param="x", code="media_decode_failed"))
    tasks = [await begin(flights, work, param) for param in ("one", "two")]
    work.may_end.set()
    found = await asyncio.gather(*tasks, return_exceptions=True)
    assert [error.param for error in found if isinstance(error, MediaError)] == ["one", "two"]
    assert not flights._flights
