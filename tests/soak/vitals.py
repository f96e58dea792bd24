"""What the server's processes hold: memory, descriptors, threads, children, blocks, tasks."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import psutil

from tests.served import Served

_GAUGES = (
    *("requests_inside", "tokens_inside"),
    *("num_requests_running", "num_requests_waiting", "kv_cache_usage_perc"),
)
_MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Sample:
    """Memory after so many requests, in bytes."""

    num_done: int
    front_bytes: int
    worker_pid: int | None
    worker_bytes: int


@dataclass(frozen=True, slots=True)
class Holdings:
    """What must be the same before and after, when nobody asks anything."""

    files: int  # of the front end
    worker_files: int
    threads: int
    children: int
    zombies: int
    tasks: int
    shared_memory: int  # named segments: a killed process would leave them behind
    gauges: dict[str, float]

    @property
    def is_idle(self) -> bool:
        return not any(self.gauges.values())


def sample(server: Served, num_done: int) -> Sample:
    worker = server.worker()
    return Sample(
        num_done,
        server.front.memory_info().rss,
        worker.pid if worker else None,
        _bytes_of(worker) if worker else 0,
    )


def _bytes_of(process: psutil.Process) -> int:
    try:
        rss: int = process.memory_info().rss
    except psutil.Error:
        return 0
    return rss


def holdings(server: Served) -> Holdings:
    front, worker, told = server.front, server.worker(), server.gauges()
    family = front.children(recursive=True)
    return Holdings(
        files=front.num_fds(),
        worker_files=worker.num_fds() if worker else 0,
        threads=front.num_threads(),
        children=len(family),
        zombies=sum(child.status() == psutil.STATUS_ZOMBIE for child in family),
        tasks=int(told["event_loop_tasks"]),
        shared_memory=sum(map(_named_segments, (front, *family))),
        gauges={name: told[name] for name in _GAUGES},
    )


def _named_segments(process: psutil.Process) -> int:
    try:
        return sum(m.path.startswith("/dev/shm/") for m in process.memory_maps())
    except psutil.Error:
        return 0


def growth_mib(samples: Sequence[Sample]) -> float:
    """Of the front end, between the medians of the first and the last fifth."""
    fifth = max(1, len(samples) // 5)
    first = statistics.median(s.front_bytes for s in samples[:fifth])
    last = statistics.median(s.front_bytes for s in samples[-fifth:])
    return (last - first) / _MIB


def slope_mib(points: Sequence[tuple[int, int]]) -> float | None:
    """MiB per 1000 requests, by least squares; None without two distinct points."""
    if len({number for number, _ in points}) < 2:
        return None
    xs, ys = zip(*points, strict=True)
    return statistics.linear_regression(xs, ys).slope * 1000 / _MIB


def worker_life(samples: Sequence[Sample]) -> list[tuple[int, int]]:
    """The longest stretch of one worker, without its first quarter: it warms up."""
    lives: dict[int, list[tuple[int, int]]] = {}
    for one in samples:
        if one.worker_pid is not None and one.worker_bytes:
            lives.setdefault(one.worker_pid, []).append((one.num_done, one.worker_bytes))
    longest = max(lives.values(), key=len, default=[])
    return longest[len(longest) // 4 :]


def curve(samples: Sequence[Sample]) -> list[tuple[int, float, float]]:
    """Some points of it: requests, MiB of the front end, MiB of the worker."""
    some = samples[:: max(1, len(samples) // 50)]
    return [
        (s.num_done, round(s.front_bytes / _MIB, 1), round(s.worker_bytes / _MIB, 1)) for s in some
    ]
