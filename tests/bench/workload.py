"""An engine on a bench checkpoint, and requests for it. Uses the engine's public face only.

Every prompt is new unless a bench repeats one on purpose, so that no cache helps by accident.
"""

import random
import statistics
import time
from dataclasses import dataclass
from pathlib import Path

from model_runtime.core import EngineCore
from model_runtime.loader import load_engine
from model_runtime.protocol import (
    AbortRequest,
    AddRequest,
    EngineConfig,
    MediaSpan,
    SamplingParams,
    StepOutput,
    TileSet,
)
from tests.bench.shapes import Shape

_MAX_MODEL_LEN = 2048
_KV_BYTES = 1 << 30


@dataclass(frozen=True, slots=True)
class Effort:
    """How often things are repeated, and how large the probes are."""

    steps: int
    repeats: int
    pairs: int
    probe_bytes: int
    gemm_size: int


THOROUGH = Effort(steps=30, repeats=7, pairs=7, probe_bytes=1 << 29, gemm_size=2048)
QUICK = Effort(steps=3, repeats=2, pairs=2, probe_bytes=1 << 24, gemm_size=1024)


@dataclass(frozen=True, slots=True)
class Setup:
    """What every bench is given."""

    shape: Shape
    folder: Path
    model_impl: str
    effort: Effort

    def config(self) -> EngineConfig:
        return EngineConfig(
            checkpoint_path=str(self.folder),
            device="cpu",
            model_impl=self.model_impl,  # type: ignore[arg-type]  # argparse has checked it
            max_model_len=_MAX_MODEL_LEN,
            kv_cache_memory_bytes=_KV_BYTES,
        )

    def engine(self) -> EngineCore:
        core, _ = load_engine(self.config())
        return core


class Workload:
    """Makes requests, each of its own random tokens and pixels."""

    def __init__(self, shape: Shape, seed: int = 0) -> None:
        self._shape = shape
        self._random = random.Random(seed)
        self._num_requests = 0

    def text(self, length: int) -> list[int]:
        return [self._random.randrange(self._shape.num_text_ids) for _ in range(length)]

    def tiles(self, num_tiles: int) -> TileSet:
        pixels = self._random.randbytes(num_tiles * self._shape.tile**2 * 3)
        return TileSet(self._random.randbytes(16), num_tiles, pixels)

    def request(self, token_ids: list[int], max_tokens: int) -> AddRequest:
        """Greedy, and always exactly `max_tokens` long."""
        self._num_requests += 1
        sampling = SamplingParams(max_tokens=max_tokens, temperature=0.0, ignore_eos=True)
        return AddRequest(f"bench-{self._num_requests}", token_ids, sampling)

    def image_request(self, before: list[int], image: TileSet, after: list[int]) -> AddRequest:
        """One token about `image`, which stands between two texts."""
        num_tokens = image.num_tiles * self._shape.tokens_per_tile
        placeholders = [self._shape.image_token_id] * num_tokens
        request = self.request(before + placeholders + after, max_tokens=1)
        span = MediaSpan(len(before), num_tokens, image.content_hash)
        return AddRequest(request.request_id, request.token_ids, request.sampling, [span], [image])


def step(core: EngineCore) -> StepOutput:
    """A step in which nothing failed: a bench of errors would be fast."""
    output = core.step()
    for sequence in output.outputs:
        assert sequence.finish_reason != "error", sequence.error
    return output


def run_until_idle(core: EngineCore) -> int:
    """Step until nothing is left; returns the number of new tokens."""
    num_tokens = 0
    while core.has_work:
        num_tokens += sum(len(output.new_token_ids) for output in step(core).outputs)
    return num_tokens


def first_token_seconds(core: EngineCore, request: AddRequest) -> float:
    """From `handle` to the request's first output. The engine is idle before and after."""
    assert not core.has_work
    started = time.perf_counter()
    core.handle(request)
    while not step(core).outputs:
        pass
    elapsed = time.perf_counter() - started
    core.handle(AbortRequest(request.request_id))
    run_until_idle(core)
    return elapsed


def start_decoding(core: EngineCore, requests: list[AddRequest]) -> None:
    """Compute the prompts, so that from now on every step decodes all of `requests`."""
    for request in requests:
        core.handle(request)
    while step(core).stats.num_decode_tokens < len(requests):
        pass


def abort(core: EngineCore, requests: list[AddRequest]) -> None:
    for request in requests:
        core.handle(AbortRequest(request.request_id))
    run_until_idle(core)


def median_ms(seconds: list[float]) -> float:
    return statistics.median(seconds) * 1e3
