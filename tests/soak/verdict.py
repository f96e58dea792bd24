"""What a soak says in the end: is anything lost, wrong or leaked?"""

import dataclasses
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from tests.soak.client import End, Outcome
from tests.soak.judge import Judge
from tests.soak.run import Record
from tests.soak.vitals import Holdings, curve, growth_mib, slope_mib, worker_life

MAX_SLOPE_MIB = 1.0  # per 1000 requests, where there are enough to tell
MIN_REQUESTS_FOR_SLOPE = 5000
MAX_GROWTH_MIB = 32.0
_SPARE = {"files": 4, "worker_files": 2, "threads": 8, "children": 0, "zombies": 0, "tasks": 0,
          "shared_memory": 0}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Row:
    """Of one kind of request."""

    kind: str
    asked: int
    answered: int
    errors: int
    left: int
    lost: int
    wrong: int
    p50_s: float | None
    p99_s: float | None


@dataclass(frozen=True, slots=True)
class Verdict:
    rows: list[Row]
    faults: list[str]  # of requests
    leaks: list[str]
    num_requests: int
    num_checked: int  # answers compared with the one given alone
    absences_s: list[float]
    codes: dict[str, int]
    front_growth_mib: float
    front_slope_mib: float | None  # per 1000 requests
    worker_slope_mib: float | None
    memory: list[tuple[int, float, float]]  # requests, MiB of the front end, MiB of the worker
    before: Holdings
    after: Holdings

    @property
    def is_good(self) -> bool:
        return not (self.faults or self.leaks)


def verdict(record: Record, log: str, exit_status: int) -> Verdict:
    assert record.before is not None and record.after is not None
    judge = Judge(record.right)
    judged = [(one, judge.fault(one, record.absences)) for one in record.outcomes]
    front = [(s.num_done, s.front_bytes) for s in record.samples[len(record.samples) // 4 :]]
    worker = worker_life(record.samples)
    slopes = slope_mib(front), slope_mib(worker)
    growth = growth_mib(record.samples)
    leaks = [*_leaks(record.before, record.after), *_growths(growth, front, worker)]
    return Verdict(
        rows=[_row(kind, judged) for kind in sorted({one.plan.kind for one, _ in judged})],
        faults=[f"#{o.plan.number} {o.plan.kind} {o.plan.endpoint.value}: {f}"
                for o, f in judged if f] + _log_faults(log, exit_status),
        leaks=leaks,
        num_requests=len(judged),
        num_checked=sum(o.plan.known is not None and o.end is End.ANSWERED for o, _ in judged),
        absences_s=[round(a.ended - a.began, 2) for a in record.absences],
        codes=dict(Counter(o.code for o, _ in judged if o.end is End.REFUSED)),
        front_growth_mib=round(growth, 2),
        front_slope_mib=_rounded(slopes[0]),
        worker_slope_mib=_rounded(slopes[1]),
        memory=curve(record.samples),
        before=record.before,
        after=record.after,
    )  # fmt: skip


def _row(kind: str, judged: Sequence[tuple[Outcome, str | None]]) -> Row:
    mine = [(outcome, fault) for outcome, fault in judged if outcome.plan.kind == kind]
    ends = Counter(outcome.end for outcome, _ in mine)
    seconds = sorted(o.ended - o.began for o, _ in mine if o.end is End.ANSWERED)
    return Row(
        kind,
        len(mine),
        ends[End.ANSWERED],
        ends[End.REFUSED],
        ends[End.LEFT],
        ends[End.LOST],
        sum(fault is not None for _, fault in mine),
        round(statistics.median(seconds), 3) if seconds else None,
        round(seconds[int(len(seconds) * 0.99)], 3) if seconds else None,
    )


def _leaks(before: Holdings, after: Holdings) -> list[str]:
    was, now = dataclasses.asdict(before), dataclasses.asdict(after)
    leaks = [
        f"{name}: {was[name]} before, {now[name]} after"
        for name, spare in _SPARE.items()
        if now[name] > was[name] + spare
    ]
    return leaks + [
        f"{name} is {value} in the end" for name, value in after.gauges.items() if value
    ]


def _growths(
    growth: float, front: Sequence[tuple[int, int]], worker: Sequence[tuple[int, int]]
) -> list[str]:
    leaks = [f"the front end grew by {growth:.1f} MiB"] if growth > MAX_GROWTH_MIB else []
    for name, points in (("front end", front), ("worker", worker)):
        slope = slope_mib(points)
        is_long = points and points[-1][0] - points[0][0] >= MIN_REQUESTS_FOR_SLOPE
        if is_long and slope is not None and slope > MAX_SLOPE_MIB:
            leaks.append(f"the {name} grows by {slope:.2f} MiB in 1000 requests")
    return leaks


def _log_faults(log: str, exit_status: int) -> list[str]:
    faults = [f"the server ended with {exit_status}"] if exit_status else []
    signs = ("Traceback", "never retrieved", "was destroyed but", "never awaited")
    return faults + [f"the log has {s!r}: {_around(log, s)}" for s in signs if s in log]


def _around(log: str, sign: str) -> str:
    start = max(0, log.index(sign) - 200)
    return log[start : start + 1000]


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
