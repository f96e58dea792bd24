"""A soak from start to end: alone, warm-up, crowd with kills, silence. Gathers, does not judge."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from itertools import count

from tests.served import Served
from tests.soak.client import Client, End, Outcome
from tests.soak.judge import Absence
from tests.soak.material import Material
from tests.soak.plan import alone, draw, endpoints_for
from tests.soak.shapes import Endpoint
from tests.soak.vitals import Holdings, Sample, holdings, sample

_SAMPLE_S = 0.5
_SETTLE_S = 45.0
_KILLS_WITHIN = (0.1, 0.7)  # of the time: the last worker is watched for a while
_MAX_WAIT_S = 3.0  # of a client that was told to come back

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Effort:
    """`num_kills`: of the worker. Three within ten minutes would rightly end the service."""

    seconds: float = 600.0
    warm_up_s: float = 30.0
    num_clients: int = 16
    num_kills: int = 2
    seed: int = 1


@dataclass(slots=True)
class Record:
    """Everything that was seen."""

    right: dict[tuple[str, Endpoint], str] = field(default_factory=dict)
    outcomes: list[Outcome] = field(default_factory=list)
    absences: list[Absence] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    before: Holdings | None = None
    after: Holdings | None = None


class Soak:
    """One run against one server."""

    def __init__(self, server: Served, material: Material, effort: Effort, tell: Tell) -> None:
        self._server = server
        self._material = material
        self._effort = effort
        self._tell = tell
        self._numbers = count()
        self.record = Record()

    async def run(self) -> Record:
        record = self.record
        async with _client(self._server) as client:
            await self._ask_alone(client)
            await self._crowd(client, self._effort.warm_up_s, "warming up")
        record.before = await self._silence()
        async with _client(self._server) as client, self._sampled():
            killing = asyncio.create_task(self._kill())
            await self._crowd(client, self._effort.seconds, "soaking")
            await killing
        record.after = await self._silence()
        return record

    async def _ask_alone(self, client: Client) -> None:
        for known in self._material.known:
            for endpoint in endpoints_for(known):
                self._tell(f"alone: {known.name} {endpoint.value}")
                outcome = await client.carry_out(alone(known, endpoint))
                assert outcome.end is End.ANSWERED, outcome
                self.record.right[known.name, endpoint] = outcome.texts[0]

    async def _crowd(self, client: Client, seconds: float, doing: str) -> None:
        ends_at = time.monotonic() + seconds
        async with asyncio.TaskGroup() as group:
            for _ in range(self._effort.num_clients):
                group.create_task(self._come_again(client, ends_at))
            while (left := ends_at - time.monotonic()) > 0:
                self._tell(f"{doing}: {left:.0f} s left, {len(self.record.outcomes)} requests")
                await asyncio.sleep(min(left, 1.0))

    async def _come_again(self, client: Client, ends_at: float) -> None:
        while time.monotonic() < ends_at:
            plan = draw(self._effort.seed, next(self._numbers), self._material)
            outcome = await client.carry_out(plan)
            self.record.outcomes.append(outcome)
            await asyncio.sleep(min(outcome.retry_after_s, _MAX_WAIT_S))

    # ------------------------------------------------------------------ kills

    async def _kill(self) -> None:
        started = time.monotonic()
        for at in _kill_times(self._effort):
            await asyncio.sleep(max(0.0, started + at - time.monotonic()))
            died = time.monotonic()
            self._tell("killing the worker")
            await asyncio.to_thread(self._kill_and_wait)
            self.record.absences.append(Absence(died, time.monotonic()))

    def _kill_and_wait(self) -> None:
        """Until another worker is ready."""
        victim = self._server.worker()
        assert victim is not None, "there is no worker to kill"
        victim.kill()
        deadline = time.monotonic() + _SETTLE_S
        while time.monotonic() < deadline:
            time.sleep(0.05)
            worker = self._server.worker()
            if worker is not None and worker.pid != victim.pid and self._server.is_ready():
                return
        raise AssertionError("there is no new worker")

    # ------------------------------------------------------------------ looking

    @asynccontextmanager
    async def _sampled(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self._sample())
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def _sample(self) -> None:
        while True:
            num_done = len(self.record.outcomes)
            self.record.samples.append(await asyncio.to_thread(sample, self._server, num_done))
            await asyncio.sleep(_SAMPLE_S)

    async def _silence(self) -> Holdings:
        """What is held when nobody has asked for a while."""
        await asyncio.sleep(2.0)
        deadline = time.monotonic() + _SETTLE_S
        while True:
            held = await asyncio.to_thread(holdings, self._server)
            if held.is_idle or time.monotonic() > deadline:
                return held
            await asyncio.sleep(0.5)


@asynccontextmanager
async def _client(server: Served) -> AsyncIterator[Client]:
    client = Client(server.url)
    try:
        yield client
    finally:
        await client.close()


def _kill_times(effort: Effort) -> Iterator[float]:
    """One in each part of the time, anywhere in it."""
    chance = random.Random(f"{effort.seed}/kills")
    first, last = (share * effort.seconds for share in _KILLS_WITHIN)
    part = (last - first) / max(1, effort.num_kills)
    for number in range(effort.num_kills):
        yield first + part * (number + chance.random())
