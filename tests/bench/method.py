"""How to measure on a machine that others use too. Knows clocks and torch, no engine.

Two ways are compared by interleaved runs, A B B A A B ...: each adjacent pair gives a ratio, and
their median with a bootstrap interval is the result. A fixed matrix product runs before and
after each run; when it moved, something else was busy, and the pair is not counted.
"""

import os
import random
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch

MAX_PROBE_MOVE = 0.15
_PROBE_SIZE = 1024
_NUM_RESAMPLES = 2000

Block = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Watched:
    """A run's result, the probe's times around it, and the load average after it."""

    value: float
    probes: tuple[float, float]
    load: float

    @property
    def probe_move(self) -> float:
        return probe_move(self)


@dataclass(frozen=True, slots=True)
class Interval:
    """A median and its bootstrap 90 % interval."""

    median: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """`ratio` is first / second over the kept pairs; None when no pair was quiet enough."""

    ratio: Interval | None
    median_first: float  # over all runs, kept or not: for orientation only
    median_second: float
    num_kept: int
    num_discarded: int
    max_load: float


def compare(
    first: Block, second: Block, *, num_pairs: int, probe: Block | None = None
) -> Comparison:
    """Run pairs until `num_pairs` were quiet, or twice as many have run.

    Each block returns its own positive measure. Both are run once before, to warm up.
    """
    probe = probe or gemm_probe
    first(), second()
    kept: list[tuple[Watched, Watched]] = []
    pairs: list[tuple[Watched, Watched]] = []
    while len(kept) < num_pairs and len(pairs) < 2 * num_pairs:
        pair = _run_pair(first, second, len(pairs) % 2 == 1, probe)
        pairs.append(pair)
        if probe_move(*pair) <= MAX_PROBE_MOVE:
            kept.append(pair)
    ratios = [one.value / other.value for one, other in kept]
    return Comparison(
        ratio=bootstrap_median(ratios) if ratios else None,
        median_first=statistics.median(one.value for one, _ in pairs),
        median_second=statistics.median(other.value for _, other in pairs),
        num_kept=len(kept),
        num_discarded=len(pairs) - len(kept),
        max_load=max(run.load for pair in pairs for run in pair),
    )


def _run_pair(
    first: Block, second: Block, is_swapped: bool, probe: Block
) -> tuple[Watched, Watched]:
    """One of each, in the order that is due; always given back as (first, second)."""
    if is_swapped:
        later = watch(second, probe)
        return watch(first, probe), later
    return watch(first, probe), watch(second, probe)


def watch(block: Block, probe: Block | None = None) -> Watched:
    """Run `block` between two probes."""
    probe = probe or gemm_probe
    before = probe()
    value = block()
    after = probe()
    return Watched(value, (before, after), os.getloadavg()[0])


def probe_move(*runs: Watched) -> float:
    """How far the probe's times lie apart around and between the runs: 0.1 is 10 %."""
    times = [probe for run in runs for probe in run.probes]
    return max(times) / min(times) - 1


def bootstrap_median(values: Sequence[float], level: float = 0.9, seed: int = 0) -> Interval:
    """The median, and where it falls in `level` of the resamples."""
    draws = random.Random(seed)
    medians = sorted(
        statistics.median(draws.choices(values, k=len(values))) for _ in range(_NUM_RESAMPLES)
    )
    tail = round((1 - level) / 2 * _NUM_RESAMPLES)
    return Interval(statistics.median(values), medians[tail], medians[-1 - tail])


def times(block: Callable[[], object], count: int) -> list[float]:
    """Seconds of each of `count` runs."""
    return [seconds(block) for _ in range(count)]


def seconds(block: Callable[[], object]) -> float:
    started = time.perf_counter()
    block()
    return time.perf_counter() - started


def gemm_probe() -> float:
    """Seconds of a fixed float32 matrix product, the median of five: about 50 ms in all."""
    left, right = _probe_matrices()
    return statistics.median(times(lambda: left @ right, 5))


@lru_cache(maxsize=1)
def _probe_matrices() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    shape = (2, _PROBE_SIZE, _PROBE_SIZE)
    left, right = torch.randn(shape, generator=generator)
    for _ in range(20):  # warm up: the first products are slower
        left @ right
    return left, right
