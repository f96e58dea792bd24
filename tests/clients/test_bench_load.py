"""When requests are sent, and which beginning their times count from."""

import asyncio
import statistics
import time
from itertools import pairwise

import pytest

from clients.bench.answer import Record
from clients.bench.figures import Block, samples
from clients.bench.load import arrivals, drive
from clients.bench.options import Load
from clients.bench.wire import Stamped

pytestmark = pytest.mark.alone


class SlowServer:
    """Answers after a time; knows how many it answered at once."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._running = 0
        self.most = 0

    async def send(self, body: bytes, intended: float | None) -> Stamped:
        started = time.perf_counter()
        self._running += 1
        self.most = max(self.most, self._running)
        await asyncio.sleep(self._seconds)
        self._running -= 1
        begin = started if intended is None else intended
        return Stamped(begin, started, time.perf_counter(), 200, ((started, body),), None)


def bodies(count: int) -> list[bytes]:
    return [str(number).encode() for number in range(count)]


@pytest.mark.parametrize(("burstiness", "variation"), [(1.0, 1.0), (0.25, 2.0), (4.0, 0.5)])
def test_arrivals_have_the_rate_and_the_burstiness(burstiness: float, variation: float) -> None:
    """Gamma gaps: mean 1 / rate, coefficient of variation 1 / sqrt(burstiness)."""
    times = arrivals(Load(None, 20.0, burstiness), 20_000, seed=1)
    gaps = [after - before for before, after in pairwise(times)]
    assert statistics.mean(gaps) == pytest.approx(1 / 20, rel=0.05)
    found = statistics.stdev(gaps) / statistics.mean(gaps)
    assert found == pytest.approx(variation, rel=0.05)


def test_poisson_gaps_have_no_memory() -> None:
    """As many gaps exceed t as an exponential distribution has: exp(-rate * t)."""
    gaps = [b - a for a, b in pairwise(arrivals(Load(None, 5.0), 20_000, seed=2))]
    for seconds, share in ((0.1, 0.6065), (0.2, 0.3679), (0.6, 0.0498)):
        assert sum(gap > seconds for gap in gaps) / len(gaps) == pytest.approx(share, abs=0.015)


def test_arrivals_follow_the_seed() -> None:
    load = Load(None, 3.0)
    assert arrivals(load, 50, seed=4) == arrivals(load, 50, seed=4) != arrivals(load, 50, seed=5)


async def test_a_closed_loop_keeps_its_places_full() -> None:
    server = SlowServer(0.02)
    done = await drive(server.send, bodies(12), Load(3))
    assert server.most == 3
    assert sorted(int(stamped.reads[0][1]) for stamped in done) == list(range(12))
    assert all(stamped.intended == stamped.started for stamped in done)


async def test_an_open_loop_does_not_wait_for_answers() -> None:
    """Ten requests at 200 a second are all under way before the first is answered."""
    server = SlowServer(0.5)
    await drive(server.send, bodies(10), Load(None, 200.0))
    assert server.most == 10


@pytest.mark.parametrize("load", [Load(2), Load(None, 100.0)])
async def test_nothing_new_is_sent_after_the_duration(load: Load) -> None:
    server = SlowServer(0.01)
    done = await drive(server.send, bodies(400), load, duration=0.2)
    assert 5 < len(done) < 100
    assert max(d.started for d in done) - min(d.started for d in done) < 0.3


async def test_waiting_for_a_place_counts_from_the_schedule() -> None:
    """An open loop with one place and too many requests: the queue is in the times."""
    load = Load(1, 100.0)
    done = await drive(SlowServer(0.05).send, bodies(10), load)
    records = tuple(Record(d.intended, d.started, d.ended, None, (d.ended,)) for d in done)
    found = samples(Block(load, records, 0.0))
    assert max(found["ttft"]) < 100
    assert max(found["ttft from schedule"]) > 250
    assert max(found["send lag"]) == pytest.approx(max(found["e2e from schedule"]) - 50, abs=30)
