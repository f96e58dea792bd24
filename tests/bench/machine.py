"""What this machine can do with the threads it has, measured: reads and matrix products."""

import torch

from tests.bench.method import times

_REPEATS = 5
_FLOATS_PER_ROW = 4096


def read_bandwidth(num_bytes: int) -> float:
    """Bytes per second of reading a float32 matrix much larger than the caches.

    The best of three ways to read it, and of five runs each: a roof, not a typical value. A last
    level cache of hundreds of MiB, shared with other machines, may still hold a part of it.
    """
    matrix = torch.ones(num_bytes // 4 // _FLOATS_PER_ROW, _FLOATS_PER_ROW)
    vector = torch.ones(_FLOATS_PER_ROW)
    flat = matrix.flatten()
    readers = (matrix.sum, lambda: matrix @ vector, lambda: flat @ flat)
    fastest = min(min(times(reader, _REPEATS)) for reader in readers)
    return matrix.nbytes / fastest


def gemm_peak(dtype: torch.dtype, size: int) -> float:
    """FLOP per second of a square matrix product, the best of five."""
    left = torch.ones(size, size, dtype=dtype)
    right = torch.ones(size, size, dtype=dtype)
    left @ right  # warm up
    return 2 * size**3 / min(times(lambda: left @ right, _REPEATS))
