"""Owns the K and V tensors of all layers, and how large they may be."""

import math
import mmap
from dataclasses import dataclass

import torch

from model_runtime.protocol import EngineConfig

CPU_DEFAULT_BYTES = 4 << 30
CPU_SHARE_OF_FREE = 0.5
CUDA_WORKSPACE_BYTES = 2 << 30  # activations of a step, CUDA graphs


@dataclass(frozen=True, slots=True)
class KVGeometry:
    """The shape of one token's keys and values."""

    num_layers: int
    num_kv_heads: int
    head_dim: int
    dtype: torch.dtype

    @property
    def bytes_per_token(self) -> int:
        return 2 * self.num_layers * self.num_kv_heads * self.head_dim * self.dtype.itemsize


class KVCache:
    """Per layer a K and a V pool, `[num_blocks + 1, block_size, num_kv_heads, head_dim]`.

    The last block stays zero: it fills up block tables, so that attention reads nobody's
    tokens in the places that it masks.
    """

    def __init__(
        self, geometry: KVGeometry, num_blocks: int, block_size: int, device: torch.device
    ) -> None:
        self.padding_block = num_blocks
        shape = (num_blocks + 1, block_size, geometry.num_kv_heads, geometry.head_dim)
        layers = range(geometry.num_layers)
        self.keys = [_zeros(shape, geometry.dtype, device) for _ in layers]
        self.values = [_zeros(shape, geometry.dtype, device) for _ in layers]

    def write(
        self, layer: int, slot_mapping: torch.Tensor, key: torch.Tensor, value: torch.Tensor
    ) -> None:
        """Store `key` and `value`, `[num_tokens, num_kv_heads, head_dim]`, at their slots."""
        self.keys[layer].flatten(0, 1).index_copy_(0, slot_mapping, key)
        self.values[layer].flatten(0, 1).index_copy_(0, slot_mapping, value)

    def scrub(self, blocks: list[int]) -> None:
        """Zero the blocks. A value that is not finite would spoil attention even where masked."""
        for pool in (*self.keys, *self.values):
            pool[blocks] = 0


def _zeros(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """Zeros; on the CPU their memory is taken only as it is written, in huge pages."""
    if device.type != "cpu":
        return torch.zeros(shape, dtype=dtype, device=device)
    memory = mmap.mmap(-1, math.prod(shape) * dtype.itemsize)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        memory.madvise(mmap.MADV_HUGEPAGE)
    return torch.frombuffer(memory, dtype=dtype).view(shape)


def count_blocks(
    config: EngineConfig, geometry: KVGeometry, max_model_len: int, device: torch.device
) -> int:
    """Blocks that fit the memory the user allows: never more than all sequences can fill."""
    block_bytes = geometry.bytes_per_token * config.block_size
    useful = config.max_num_seqs * -(-max_model_len // config.block_size)
    return max(1, min(useful, _budget_bytes(config, device) // block_bytes))


def _budget_bytes(config: EngineConfig, device: torch.device) -> int:
    if config.kv_cache_memory_bytes is not None:
        return config.kv_cache_memory_bytes
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        spoken_for = config.mm_embedding_cache_bytes + CUDA_WORKSPACE_BYTES
        return max(0, int(free - spoken_for - total * (1 - config.gpu_memory_utilization)))
    return min(CPU_DEFAULT_BYTES, int(_free_memory_bytes() * CPU_SHARE_OF_FREE))


def _free_memory_bytes() -> int:
    """Linux's estimate of the memory that new allocations can have."""
    with open("/proc/meminfo", encoding="ascii") as lines:
        for line in lines:
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return 2 * CPU_DEFAULT_BYTES
