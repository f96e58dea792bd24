"""How close a prompt and a tile come to the machine's matrix product."""

from dataclasses import dataclass
from pathlib import Path

import torch

from model_runtime.checkpoint import load_checkpoint
from model_runtime.core import EngineCore
from model_runtime.loader import load_model
from model_runtime.model import Model
from tests.bench.machine import gemm_peak
from tests.bench.method import Block, seconds, watch
from tests.bench.workload import Setup, Workload, first_token_seconds, median_ms

PROMPT_LEN = 512
TILE_COUNTS = (1, 4)


@dataclass(frozen=True, slots=True)
class ComputeRow:
    what: str
    items: int  # tokens or tiles
    ms: float  # median
    items_per_s: float
    gflop: float
    gflop_per_s: float
    gemm_gflop_per_s: float  # measured around this row, same dtype
    mfu: float
    probe_move: float
    load: float


def run_prefill(setup: Setup) -> list[ComputeRow]:
    """A new prompt through the engine until its first token."""
    core, workload = setup.engine(), Workload(setup.shape)
    flops = setup.shape.prefill_flops(PROMPT_LEN)
    return [_row(setup, "prompt tokens", PROMPT_LEN, flops, lambda: _prefill(core, workload))]


def run_vision(setup: Setup) -> list[ComputeRow]:
    """Tiles through the tower and the projector."""
    checkpoint = load_checkpoint(Path(setup.folder), setup.shape.name)
    model = load_model(setup.config(), checkpoint, torch.device("cpu"))
    flops = setup.shape.tile_flops()
    return [
        _row(setup, "tiles", count, flops * count, _encoding(setup, model, count))
        for count in TILE_COUNTS
    ]


def _prefill(core: EngineCore, workload: Workload) -> float:
    return first_token_seconds(core, workload.request(workload.text(PROMPT_LEN), 1))


def _encoding(setup: Setup, model: Model, num_tiles: int) -> Block:
    size = setup.shape.tile
    pixels = torch.randint(0, 256, (num_tiles, size, size, 3), dtype=torch.uint8)

    @torch.inference_mode()
    def encode() -> float:
        return seconds(lambda: model.encode_tiles(pixels))

    return encode


def _row(setup: Setup, what: str, items: int, flops: int, block: Block) -> ComputeRow:
    effort, dtype = setup.effort, setup.shape.dtype
    block()  # warm up
    before = gemm_peak(dtype, effort.gemm_size)
    watched = watch(lambda: median_ms([block() for _ in range(effort.repeats)]))
    peak = max(before, gemm_peak(dtype, effort.gemm_size))
    speed = flops / watched.value * 1e3
    return ComputeRow(
        what=what,
        items=items,
        ms=watched.value,
        items_per_s=items / watched.value * 1e3,
        gflop=flops / 1e9,
        gflop_per_s=speed / 1e9,
        gemm_gflop_per_s=peak / 1e9,
        mfu=speed / peak,
        probe_move=watched.probe_move,
        load=watched.load,
    )
