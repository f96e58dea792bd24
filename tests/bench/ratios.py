"""The rows of benches that compare two ways by interleaved pairs."""

from dataclasses import dataclass

from tests.bench.method import Block, Comparison, compare


@dataclass(frozen=True, slots=True)
class RatioRow:
    """`ratio` is first / second, the median over the pairs that were quiet; None without any."""

    what: str
    unit: str
    first: float  # medians over all runs, for orientation
    second: float
    ratio: float | None
    low: float | None  # 90 % bootstrap interval
    high: float | None
    pairs: int
    discarded: int
    max_load: float


def compare_row(what: str, unit: str, first: Block, second: Block, num_pairs: int) -> RatioRow:
    return _row(what, unit, compare(first, second, num_pairs=num_pairs))


def _row(what: str, unit: str, result: Comparison) -> RatioRow:
    ratio = result.ratio
    return RatioRow(
        what=what,
        unit=unit,
        first=result.median_first,
        second=result.median_second,
        ratio=ratio.median if ratio else None,
        low=ratio.low if ratio else None,
        high=ratio.high if ratio else None,
        pairs=result.num_kept,
        discarded=result.num_discarded,
        max_load=result.max_load,
    )
