"""What the host does between two forward passes: the engine with a model that computes nothing.

The clock is put around the engine's own parts, so the sum is the real step and not a copy of it.
"""

import statistics
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from time import perf_counter
from typing import Any, ParamSpec, TypeVar
from unittest.mock import patch

import msgspec
import torch

from model_runtime.batch import Batch, build_batch
from model_runtime.core import EngineCore
from model_runtime.kv_cache import KVCache, KVGeometry
from model_runtime.loader import load_engine
from model_runtime.model import Model
from tests.bench.method import watch
from tests.bench.workload import Setup, Workload, abort, start_decoding, step

NUM_RUNNING = (1, 16, 64, 256)
CONTEXT_LEN = 512
LIMIT_US = 1000.0  # for scheduling, batch building and bookkeeping at 64 sequences
_STEPS_PER_EFFORT = 5  # these steps are short
_WARM_UP = 5

P = ParamSpec("P")
T = TypeVar("T")


class FakeModel:
    """Implements `model_runtime.model.Model`: right shapes, no work, token 0 always."""

    impl = "fake"
    device = torch.device("cpu")
    dtype = torch.float32
    hidden_size = 1
    tile_flops = 1.0
    kv_geometry = KVGeometry(num_layers=1, num_kv_heads=1, head_dim=1, dtype=torch.float32)

    def embed(self, token_ids: torch.Tensor) -> torch.Tensor:
        return torch.zeros(len(token_ids), self.hidden_size)

    def encode_tiles(self, pixels: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError("this bench has no images")

    def forward(self, embeddings: torch.Tensor, batch: Batch, cache: KVCache) -> torch.Tensor:
        return embeddings

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """A small vocabulary: reading a large one is the device's work."""
        return torch.zeros(len(hidden), 64)


@dataclass(frozen=True, slots=True)
class HostRow:
    """Medians, in microseconds per step."""

    running: int
    context: int
    schedule_us: float
    build_us: float
    commit_us: float  # everything of the step that is in no other column
    sum_us: float  # of the three
    sample_us: float
    limit_us: float | None
    probe_move: float
    load: float


class Stopwatch:
    """Times calls of functions that it has wrapped, by name."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, list[float]] = defaultdict(list)

    def wrap(self, name: str, function: Callable[P, T]) -> Callable[P, T]:
        def timed(*args: P.args, **kwargs: P.kwargs) -> T:
            started = perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                self.seconds[name].append(perf_counter() - started)

        return timed

    def median_us(self, name: str) -> float:
        return statistics.median(self.seconds[name]) * 1e6


def run(setup: Setup) -> list[HostRow]:
    config = msgspec.structs.replace(setup.config(), max_num_seqs=max(NUM_RUNNING))
    model: Model = FakeModel()
    with patch("model_runtime.loader.load_model", return_value=model):
        core, _ = load_engine(config)
    workload = Workload(setup.shape)
    return [_row(setup, core, workload, num_running) for num_running in NUM_RUNNING]


def _row(setup: Setup, core: EngineCore, workload: Workload, num_running: int) -> HostRow:
    num_steps = setup.effort.steps * _STEPS_PER_EFFORT
    requests = [workload.request(workload.text(CONTEXT_LEN), 10**6) for _ in range(num_running)]
    start_decoding(core, requests)
    for _ in range(_WARM_UP):
        step(core)
    with timed_parts(core) as stopwatch:
        watched = watch(lambda: _take_steps(core, num_steps, num_running))
    abort(core, requests)
    schedule, build = stopwatch.median_us("schedule"), stopwatch.median_us("build")
    commit = _rest_us(stopwatch)
    return HostRow(
        running=num_running,
        context=CONTEXT_LEN,
        schedule_us=schedule,
        build_us=build,
        commit_us=commit,
        sum_us=schedule + build + commit,
        sample_us=stopwatch.median_us("sample"),
        limit_us=LIMIT_US if num_running == 64 else None,
        probe_move=watched.probe_move,
        load=watched.load,
    )


@contextmanager
def timed_parts(core: EngineCore) -> Iterator[Stopwatch]:
    """While this is open, the engine's parts are timed. They are its private ones."""
    parts: list[tuple[str, Any, str]] = [
        ("schedule", core._scheduler, "schedule"),
        ("run", core._runner, "run"),
        ("sample", core._sampler, "sample"),
        ("step", core, "step"),
    ]
    stopwatch = Stopwatch()
    with ExitStack() as patches:
        for name, owner, attribute in parts:
            timed = stopwatch.wrap(name, getattr(owner, attribute))
            patches.enter_context(patch.object(owner, attribute, timed))
        timed_build = stopwatch.wrap("build", build_batch)
        patches.enter_context(patch("model_runtime.runner.build_batch", timed_build))
        yield stopwatch


def _take_steps(core: EngineCore, num_steps: int, num_running: int) -> float:
    for _ in range(num_steps):
        assert step(core).stats.num_decode_tokens == num_running
    return float(num_steps)


def _rest_us(stopwatch: Stopwatch) -> float:
    """The step without its named parts; `run` holds `build` and the model."""
    parts = (stopwatch.seconds[name] for name in ("step", "schedule", "run", "sample"))
    rests: list[float] = [whole - sum(named) for whole, *named in zip(*parts, strict=True)]
    return statistics.median(rests) * 1e6
