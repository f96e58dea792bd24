"""How close a decode step comes to reading the weights and the KV just once."""

from dataclasses import dataclass

from model_runtime.core import EngineCore
from tests.bench.machine import read_bandwidth
from tests.bench.method import times, watch
from tests.bench.workload import Setup, Workload, abort, median_ms, start_decoding, step

BATCHES = (1, 4, 16, 64)
CONTEXT_LEN = 128  # in the middle of the measured steps
_WARM_UP = 2


@dataclass(frozen=True, slots=True)
class DecodeRow:
    batch: int
    context: int
    step_ms: float  # median
    tokens_per_s: float
    read_gb: float  # the least a step must read
    bandwidth_gb_s: float  # measured around this row
    mbu: float  # model bandwidth utilisation: least bytes / time / bandwidth
    probe_move: float
    load: float


def run(setup: Setup) -> list[DecodeRow]:
    core, workload = setup.engine(), Workload(setup.shape)
    return [_row(setup, core, workload, batch) for batch in BATCHES]


def _row(setup: Setup, core: EngineCore, workload: Workload, batch: int) -> DecodeRow:
    before = read_bandwidth(setup.effort.probe_bytes)
    watched = watch(lambda: _step_ms(setup, core, workload, batch))
    bandwidth = max(before, read_bandwidth(setup.effort.probe_bytes))
    least = setup.shape.decode_bytes(batch, CONTEXT_LEN)
    return DecodeRow(
        batch=batch,
        context=CONTEXT_LEN,
        step_ms=watched.value,
        tokens_per_s=batch / watched.value * 1e3,
        read_gb=least / 1e9,
        bandwidth_gb_s=bandwidth / 1e9,
        mbu=least / (watched.value / 1e3) / bandwidth,
        probe_move=watched.probe_move,
        load=watched.load,
    )


def _step_ms(setup: Setup, core: EngineCore, workload: Workload, batch: int) -> float:
    num_steps = setup.effort.steps
    num_prompt = CONTEXT_LEN - _WARM_UP - num_steps // 2
    requests = [workload.request(workload.text(num_prompt), 10**6) for _ in range(batch)]
    start_decoding(core, requests)
    for _ in range(_WARM_UP):
        step(core)
    seconds = times(lambda: _full_step(core, batch), num_steps)
    abort(core, requests)
    return median_ms(seconds)


def _full_step(core: EngineCore, batch: int) -> None:
    stats = step(core).stats
    assert (stats.num_decode_tokens, stats.num_prefill_tokens) == (batch, 0)
