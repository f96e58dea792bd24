"""From records to figures. docs/bench.md defines each in words; times are in milliseconds."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from clients.bench.answer import Record
from clients.bench.options import Load

PERCENTILES = (50, 90, 95, 99)
Samples = dict[str, list[float]]


@dataclass(frozen=True, slots=True)
class Block:
    """One load as it went. `cpu_share`: of a core, that this client was busy."""

    load: Load
    records: tuple[Record, ...]
    cpu_share: float


@dataclass(frozen=True, slots=True)
class Summary:
    """One level of load. None: there is nothing to tell it from."""

    load: str
    num_requests: int
    num_completed: int
    seconds: float  # from the first request's (intended) beginning to the last answer's end
    request_throughput: float  # completed requests per second
    output_throughput: float | None  # tokens per second
    request_goodput: float | None  # requests per second within all limits
    mean_input_tokens: float | None
    mean_output_tokens: float | None
    cached_share: float | None  # of the prompts' tokens, as the server says
    latencies_ms: dict[str, dict[str, float]]  # figure → mean, p50, p90, p95, p99
    errors: dict[str, int]
    error_messages: dict[str, str]  # the first of each code
    client_cpu_share: float


def summarise(block: Block, limits: dict[str, float]) -> Summary:
    records = block.records
    completed = [record for record in records if record.error is None]
    seconds = max(r.ended for r in records) - min(r.intended for r in records)
    inputs = _total(record.input_tokens for record in completed)
    outputs = _total(record.output_tokens for record in completed)
    count = len(completed)
    return Summary(
        load=block.load.label,
        num_requests=len(records),
        num_completed=count,
        seconds=seconds,
        request_throughput=count / seconds,
        output_throughput=outputs / seconds if outputs is not None else None,
        request_goodput=_num_good(completed, limits) / seconds if limits else None,
        mean_input_tokens=inputs / count if inputs is not None else None,
        mean_output_tokens=outputs / count if outputs is not None else None,
        cached_share=sum(r.cached_tokens for r in completed) / inputs if inputs else None,
        latencies_ms={name: spread(values) for name, values in samples(block).items() if values},
        errors=dict(Counter(record.error for record in records if record.error)),
        error_messages=_messages(records),
        client_cpu_share=block.cpu_share,
    )


def samples(block: Block) -> Samples:
    """Every value of each figure, of completed requests (ITL: of all their gaps)."""
    completed = [record for record in block.records if record.error is None]
    found: Samples = {
        "ttft": _known(ttft(record) for record in completed),
        "itl": [gap for record in completed for gap in _gaps(record)],
        "tpot": _known(tpot(record) for record in completed),
        "e2e": [e2e(record) for record in completed],
        "first event": _known(first_event(record) for record in completed),
    }
    if block.load.rate is None:
        return found
    lags = [(record.started - record.intended) * 1e3 for record in block.records]
    scheduled = {
        "ttft from schedule": _known(ttft(record, is_scheduled=True) for record in completed),
        "e2e from schedule": [e2e(record, is_scheduled=True) for record in completed],
    }
    return found | scheduled | {"send lag": lags}


def ttft(record: Record, *, is_scheduled: bool = False) -> float | None:
    """Time to first token. None: the answer had no content."""
    if not record.content_times:
        return None
    return (record.content_times[0] - _begin(record, is_scheduled)) * 1e3


def first_event(record: Record) -> float | None:
    """To the first chunk of any kind, which some tools call the first token."""
    return (record.first_event - record.started) * 1e3 if record.first_event else None


def e2e(record: Record, *, is_scheduled: bool = False) -> float:
    return (record.ended - _begin(record, is_scheduled)) * 1e3


def tpot(record: Record) -> float | None:
    """Time per output token after the first. None: fewer than two tokens, or unknown."""
    if not record.content_times or (record.output_tokens or 0) < 2:
        return None
    assert record.output_tokens is not None
    span = record.content_times[-1] - record.content_times[0]
    return span * 1e3 / (record.output_tokens - 1)


def spread(values: Sequence[float]) -> dict[str, float]:
    ordered = sorted(values)
    found = {"mean": sum(ordered) / len(ordered)}
    return found | {f"p{percent}": percentile(ordered, percent) for percent in PERCENTILES}


def percentile(ordered: Sequence[float], percent: float) -> float:
    """Linear between neighbours, as numpy's default. `ordered`: ascending, not empty."""
    place = (len(ordered) - 1) * percent / 100
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def _begin(record: Record, is_scheduled: bool) -> float:
    return record.intended if is_scheduled else record.started


def _gaps(record: Record) -> Iterable[float]:
    return ((after - before) * 1e3 for before, after in pairwise(record.content_times))


def _num_good(completed: Iterable[Record], limits: dict[str, float]) -> int:
    """Latencies count from the intended beginning, which in a closed loop is the real one."""
    return sum(_is_good(record, limits) for record in completed)


def _is_good(record: Record, limits: dict[str, float]) -> bool:
    first = ttft(record, is_scheduled=True)
    values = {
        "ttft": float("inf") if first is None else first,
        "tpot": tpot(record) or 0.0,
        "e2e": e2e(record, is_scheduled=True),
    }
    return all(values[name] <= limit for name, limit in limits.items())


def _known(values: Iterable[float | None]) -> list[float]:
    return [value for value in values if value is not None]


def _total(counts: Iterable[int | None]) -> int | None:
    """None when nothing was counted, or somebody did not count: half a sum would mislead."""
    listed = list(counts)
    known = [count for count in listed if count is not None]
    return sum(known) if known and len(known) == len(listed) else None


def _messages(records: Iterable[Record]) -> dict[str, str]:
    first: dict[str, str] = {}
    for record in records:
        if record.error and record.message:
            first.setdefault(record.error, record.message)
    return first
