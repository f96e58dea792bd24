"""Chooses what makes the native model fast on a device: fused kernels, CUDA graphs.

Where a shape or a missing library stands in the way, the plain path is taken, and said so.
"""

import importlib.util
import logging
from collections.abc import Callable
from dataclasses import dataclass

import torch

from model_runtime.batch import Batch
from model_runtime.checkpoint import TileProcessing
from model_runtime.kv_cache import KVCache
from model_runtime.model import Model
from model_runtime.native.config import TextConfig
from model_runtime.native.graphs import DecodeGraphs, DecodeLimits, TileGraphs
from model_runtime.native.model import NativeModel
from model_runtime.native.ops import Ops, TorchOps

logger = logging.getLogger(__name__)
_HEAD_DIMS = (16, 32, 64, 128)
_MAX_GROUP = 16


@dataclass(frozen=True, slots=True)
class Acceleration:
    """How the engine calls the model's two hot ends."""

    encode_tiles: Callable[[torch.Tensor], torch.Tensor]
    decode_logits: Callable[[Batch], torch.Tensor] | None  # None: steps run as they come


def is_accelerated(device: torch.device) -> bool:
    return device.type == "cuda"


def choose_ops(text: TextConfig, block_size: int, device: torch.device) -> Ops:
    """Fused kernels on CUDA, plain torch elsewhere."""
    if not is_accelerated(device):
        return TorchOps()
    if problem := _kernel_problem(text, block_size):
        logger.warning("the CUDA kernels are not used: %s", problem)
        return TorchOps()
    from model_runtime.native.triton_ops import TritonOps

    return TritonOps(count_processors(device))


def count_processors(device: torch.device) -> int:
    return torch.cuda.get_device_properties(device).multi_processor_count


@torch.inference_mode()
def accelerate(
    model: Model, cache: KVCache, tiles: TileProcessing, *, max_num_tiles: int, limits: DecodeLimits
) -> Acceleration:
    """Capture the steps that only decode and the tile batches, where the device has graphs."""
    has_graphs = is_accelerated(model.device) and isinstance(model, NativeModel)
    if not has_graphs:
        return Acceleration(model.encode_tiles, None)
    tile_shape = (tiles.tile_height, tiles.tile_width, 3)
    return Acceleration(
        TileGraphs(
            model.encode_tiles,
            tile_shape=tile_shape,
            max_num_tiles=max_num_tiles,
            device=model.device,
        ),
        DecodeGraphs(lambda batch: _logits(model, cache, batch), limits, model.device),
    )


def _logits(model: Model, cache: KVCache, batch: Batch) -> torch.Tensor:
    """A step of decodes from token ids to logits."""
    return model.logits(model.forward(model.embed(batch.input_ids), batch, cache))


def _kernel_problem(text: TextConfig, block_size: int) -> str | None:
    if importlib.util.find_spec("triton") is None:
        return "triton is not installed"
    if block_size < 16 or block_size & (block_size - 1):
        return f"block size {block_size} is not a power of two from 16 on"
    if text.head_dim not in _HEAD_DIMS:
        return f"head dimension {text.head_dim} is not one of {_HEAD_DIMS}"
    if text.num_heads // text.num_kv_heads > _MAX_GROUP:
        return f"more than {_MAX_GROUP} query heads share a KV head"
    return None
