"""What a server does with more requests than it can answer: open loop, 0.5 to 3 times its capacity.

Requests come when they come (Poisson), whether or not earlier ones are answered. A server that
holds answers as many at three times the load as at its best, and refuses the rest at once.
"""

import asyncio
import random
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Thread

import httpx
import psutil

from tests.bench.light_client import LightClient, Reply, request_bytes
from tests.bench.workload import Setup
from tests.served import Served
from tests.server.media.makers import data_url, encoded, photo

LOADS = (0.5, 0.75, 1.0, 1.5, 2.0, 3.0)
MAX_NUM_SEQS, MAX_WAITING = 32, 64
FIRST_TOKEN_LIMIT_S = 5.0  # later answers are no good ones
MIN_SHARE_OF_PEAK, MAX_REFUSAL_MS = 0.9, 10.0
_ARGUMENTS = (f"--max-num-seqs={MAX_NUM_SEQS}", f"--max-waiting-requests={MAX_WAITING}")
_PATH = "/v1/chat/completions"
_NUM_TOKENS = 24
_PICTURE_EVERY = 4
_SEED = 1
_EMPTY_AFTER_S = 60
_MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class OverloadRow:
    """Per second where nothing else is said. Good: whole, its first token within the limit."""

    load: float  # times the capacity
    offered: float
    answered: float
    good: float
    of_peak: float
    first_token_p50_s: float | None
    first_token_p99_s: float | None
    refused: int
    refusal_p50_ms: float | None
    refusal_p99_ms: float | None
    failed: int  # neither answered nor refused as promised
    late_p99_ms: float  # the client's own
    front_mib: float  # at most
    worker_mib: float
    verdict: str


@dataclass(frozen=True, slots=True)
class Span:
    """Seconds of a point: until it is steady, and while it is measured."""

    settle_s: float
    measure_s: float


@dataclass(slots=True)
class Point:
    """What was seen at one load."""

    load: float
    rate: float  # requests per second
    span: Span
    started: float = 0.0  # by the monotonic clock
    replies: list[Reply] = field(default_factory=list)
    front_bytes: int = 0
    worker_bytes: int = 0


def run(setup: Setup) -> list[OverloadRow]:
    is_quick = setup.effort.pairs <= 2
    span = Span(1, 2) if is_quick else Span(6, 20)
    loads = (0.5, 3.0) if is_quick else LOADS
    with tempfile.TemporaryDirectory() as folder:
        with Served(Path(folder) / "log", _ARGUMENTS) as server:
            points = asyncio.run(_measure(server, loads, span))
    peak = max(_good_per_s(point) for point in points)
    return [_row(point, peak) for point in points]


async def _measure(server: Served, loads: Sequence[float], span: Span) -> list[Point]:
    requests = _Requests()
    await _capacity(server, requests, Span(1, 1))  # warm up
    capacity = await _capacity(server, requests, span)
    points = []
    for load in loads:
        point = Point(load, load * capacity, span)
        with _watched(server, point):
            await _offer(server, requests, point)
        await asyncio.to_thread(_wait_until_empty, server)
        points.append(point)
    return points


class _Requests:
    """Each a new text; every fourth has a picture, of a few that are shown again and again."""

    def __init__(self) -> None:
        jpegs = (encoded(photo(448, 448, seed=i), "JPEG") for i in range(8))
        self._urls = [data_url(jpeg, "image/jpeg") for jpeg in jpegs]
        self._num_made = 0

    def make(self) -> bytes:
        self._num_made += 1
        content: list[dict[str, object]] = [{"type": "text", "text": f"Hello {self._num_made}"}]
        if self._num_made % _PICTURE_EVERY == 0:
            url = self._urls[self._num_made // _PICTURE_EVERY % len(self._urls)]
            content.insert(0, {"type": "image_url", "image_url": {"url": url}})
        body: dict[str, object] = {
            "messages": [{"role": "user", "content": content}],
            "max_tokens": _NUM_TOKENS,
            "ignore_eos": True,
            "stream": True,
        }
        return request_bytes(_PATH, body)


async def _capacity(server: Served, requests: _Requests, span: Span) -> float:
    """Answers per second when as many clients as fit ask again and again."""
    client = _client(server)
    ends: list[float] = []
    over = time.monotonic() + span.settle_s + span.measure_s

    async def come_again() -> None:
        while (now := time.monotonic()) < over:
            reply = await client.ask(requests.make(), now)
            assert reply.is_whole and reply.status == 200, reply
            ends.append(time.monotonic())

    async with asyncio.timeout(60 + span.settle_s + span.measure_s):
        await asyncio.gather(*(come_again() for _ in range(MAX_NUM_SEQS + MAX_WAITING // 2)))
    await client.close()
    return sum(over - span.measure_s <= end < over for end in ends) / span.measure_s


async def _offer(server: Served, requests: _Requests, point: Point) -> None:
    """Send at the point's rate, and wait until everything is answered."""
    client = _client(server)
    await client.warm(MAX_NUM_SEQS + MAX_WAITING + 16)
    chance = random.Random(f"{_SEED}/{point.load}")
    point.started = due = time.monotonic()

    async def ask(request: bytes, due: float) -> None:
        point.replies.append(await client.ask(request, due))

    async with asyncio.timeout(300), asyncio.TaskGroup() as group:
        while due - point.started < point.span.settle_s + point.span.measure_s:
            request = requests.make()
            await asyncio.sleep(due - time.monotonic())
            group.create_task(ask(request, due))
            due += chance.expovariate(point.rate)
    await client.close()


def _client(server: Served) -> LightClient:
    url = httpx.URL(server.url)
    assert url.port is not None
    return LightClient(url.host, url.port)


@contextmanager
def _watched(server: Served, point: Point) -> Iterator[None]:
    """The most memory that the processes have meanwhile."""
    is_over = Event()

    def look() -> None:
        worker = server.worker()
        while not is_over.wait(0.25):
            point.front_bytes = max(point.front_bytes, _bytes_of(server.front))
            point.worker_bytes = max(point.worker_bytes, _bytes_of(worker))

    thread = Thread(target=look)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


def _bytes_of(process: psutil.Process | None) -> int:
    return process.memory_info().rss if process else 0


def _wait_until_empty(server: Served) -> None:
    over = time.monotonic() + _EMPTY_AFTER_S
    while num_inside := server.gauges()["requests_inside"]:
        assert time.monotonic() < over, (
            f"{num_inside:.0f} requests are still inside:\n{server.said()}"
        )
        time.sleep(0.2)


# ------------------------------------------------------------------ what it says


def _row(point: Point, peak: float) -> OverloadRow:
    answered = [reply for reply in point.replies if reply.status == 200 and reply.is_whole]
    refused = [reply for reply in point.replies if _is_refused(reply)]
    refusal_ms = [reply.head_s * 1e3 for reply in refused]
    first_s = [reply.first_token_s for reply in answered]
    of_peak = _good_per_s(point) / peak if peak else 0.0
    return OverloadRow(
        load=point.load,
        offered=point.rate,
        answered=_per_s(point, answered),
        good=_good_per_s(point),
        of_peak=of_peak,
        first_token_p50_s=_percentile(first_s, 0.5),
        first_token_p99_s=_percentile(first_s, 0.99),
        refused=len(refused),
        refusal_p50_ms=_percentile(refusal_ms, 0.5),
        refusal_p99_ms=_percentile(refusal_ms, 0.99),
        failed=len(point.replies) - len(answered) - len(refused),
        late_p99_ms=(_percentile([r.late_s for r in point.replies], 0.99) or 0.0) * 1e3,
        front_mib=point.front_bytes / _MIB,
        worker_mib=point.worker_bytes / _MIB,
        verdict=_verdict(point.load, of_peak, refusal_ms),
    )


def _is_refused(reply: Reply) -> bool:
    return reply.status == 503 and reply.has_retry_after and reply.is_whole


def _good_per_s(point: Point) -> float:
    good = [r for r in point.replies if r.status == 200 and r.is_whole and
            r.first_token_s <= FIRST_TOKEN_LIMIT_S]  # fmt: skip
    return _per_s(point, good)


def _per_s(point: Point, replies: Sequence[Reply]) -> float:
    """Of those that ended while it was measured."""
    start = point.started + point.span.settle_s
    end = start + point.span.measure_s
    return sum(start <= reply.ended < end for reply in replies) / point.span.measure_s


def _verdict(load: float, of_peak: float, refusal_ms: Sequence[float]) -> str:
    """Of the heaviest load."""
    if load < LOADS[-1]:
        return ""
    holds = "holds" if of_peak >= MIN_SHARE_OF_PEAK else "COLLAPSES"
    if not refusal_ms:
        return holds
    is_quick = statistics.median(refusal_ms) < MAX_REFUSAL_MS
    return f"{holds}, refuses {'at once' if is_quick else 'LATE'}"


def _percentile(values: Sequence[float], share: float) -> float | None:
    return sorted(values)[int(len(values) * share)] if values else None
