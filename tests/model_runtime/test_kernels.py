"""The Triton kernels against plain torch: on the GPU where there is one, else interpreted."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("triton")

import triton
import triton.language as tl

from model_runtime.kernels import reference
from model_runtime.kernels.paged_decode import choose_num_splits, paged_decode
from model_runtime.kernels.rms_norm import add_rms_norm, rms_norm
from model_runtime.kernels.rope_cache import rotate_and_cache
from model_runtime.kernels.silu_mul import silu_mul

if not torch.cuda.is_available() and triton.__version__.startswith("3.6."):
    pytest.skip("triton 3.6 cannot interpret loops under numpy 2.4", allow_module_level=True)

ROOT = Path(__file__).parents[2]
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
EDGES = [1, 15, 16, 17, 63, 64, 65, 0]


@pytest.fixture(autouse=True)
def one_seed() -> None:
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def true_bfloat16_dot(monkeypatch: pytest.MonkeyPatch) -> None:
    """The interpreter keeps bfloat16 as its bits, and its dot multiplies them: widen them first."""
    interpreter = pytest.importorskip("triton.runtime.interpreter")
    builder = interpreter.InterpreterBuilder
    create_dot = builder.create_dot

    def widened(self: Any, handle: Any) -> Any:
        is_bits = handle.dtype.scalar == tl.bfloat16
        return self.cast_impl(handle, tl.float32) if is_bits else handle

    def create_true_dot(self: Any, a: Any, b: Any, *rest: Any) -> Any:
        return create_dot(self, widened(self, a), widened(self, b), *rest)

    monkeypatch.setattr(builder, "create_dot", create_true_dot)


def assert_close(actual: torch.Tensor, expected: torch.Tensor) -> None:
    assert actual.dtype == expected.dtype
    tolerance = {torch.float32: 2e-5, torch.float16: 4e-3, torch.bfloat16: 3e-2}[expected.dtype]
    torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance)


def randn(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(shape, device=DEVICE).to(dtype)


@DTYPES
@pytest.mark.parametrize("size", [48, 896, 1536])
def test_rms_norm(dtype: torch.dtype, size: int) -> None:
    x, weight = randn(3, size, dtype=dtype) * 7, randn(size, dtype=dtype)
    assert_close(rms_norm(x, weight, 1e-6), reference.rms_norm(x, weight, 1e-6))


@DTYPES
def test_add_rms_norm_keeps_the_sum(dtype: torch.dtype) -> None:
    x, residual, weight = randn(3, 896, dtype=dtype), randn(3, 896, dtype=dtype), randn(896)
    weight, total = weight.to(dtype), residual + x
    assert_close(add_rms_norm(x, residual, weight, 1e-5), reference.rms_norm(total, weight, 1e-5))
    assert_close(residual, total)


def test_a_wide_residual_stays_wide() -> None:
    x, residual = randn(2, 64, dtype=torch.bfloat16), randn(2, 64)
    total, weight = residual + x, randn(64, dtype=torch.bfloat16)
    normed = add_rms_norm(x, residual, weight, 1e-6)
    assert_close(residual, total)
    expected = reference.rms_norm(total, weight.float(), 1e-6)
    assert_close(normed, expected.to(torch.bfloat16))


@DTYPES
@pytest.mark.parametrize("size", [96, 1024, 4864])
def test_silu_mul(dtype: torch.dtype, size: int) -> None:
    gate_up = randn(2, 2 * size, dtype=dtype) * 3
    assert_close(silu_mul(gate_up), reference.silu_mul(gate_up))


@DTYPES
@pytest.mark.parametrize("has_norm", [False, True])
@pytest.mark.parametrize(("num_heads", "num_kv_heads", "head_dim"), [(14, 2, 64), (5, 1, 128)])
def test_rotate_and_cache(
    num_heads: int, num_kv_heads: int, head_dim: int, has_norm: bool, dtype: torch.dtype
) -> None:
    qkv = randn(4, (num_heads + 2 * num_kv_heads) * head_dim, dtype=dtype)
    positions = torch.tensor([5, 0, 31, 7], device=DEVICE)
    slots = torch.tensor([40, 3, -1, 0], device=DEVICE)
    angles = randn(32, head_dim // 2)
    cos_sin = torch.stack((angles.cos(), angles.sin()), dim=1)
    norms = [randn(head_dim, dtype=dtype) if has_norm else None for _ in range(2)]

    def run(rotate: object, qkv: torch.Tensor) -> list[torch.Tensor]:
        pools = [torch.full((4, 16, num_kv_heads, head_dim), 9.0, dtype=dtype, device=DEVICE)] * 2
        pools = [pool.clone() for pool in pools]
        rotate(qkv, positions, cos_sin, slots, *pools, num_heads, *norms)  # type: ignore[operator]
        return [qkv, *pools]

    expected = run(reference.rotate_and_cache, qkv.clone())
    for actual, wanted in zip(run(rotate_and_cache, qkv), expected, strict=True):
        assert_close(actual, wanted)


def paged_context(
    lens: list[int], num_kv_heads: int, head_dim: int, block_size: int, dtype: torch.dtype
) -> tuple[torch.Tensor, ...]:
    """Pools full of NaN but for the sequences' tokens, in blocks of random order."""
    width = max(-(-length // block_size) for length in lens)
    num_blocks = len(lens) * width + 1
    table = torch.randperm(num_blocks, device=DEVICE)[1:].view(len(lens), width)
    pools = torch.full((2, num_blocks, block_size, num_kv_heads, head_dim), torch.nan)
    pools = pools.to(DEVICE, dtype)
    for row, length in enumerate(lens):
        tokens = torch.arange(length, device=DEVICE)
        slots = table[row][tokens // block_size] * block_size + tokens % block_size
        pools.flatten(1, 2)[:, slots] = randn(2, length, num_kv_heads, head_dim, dtype=dtype)
    return pools[0], pools[1], table.int(), torch.tensor(lens, device=DEVICE, dtype=torch.int32)


def check_decode(
    lens: list[int],
    heads: tuple[int, int],
    head_dim: int = 64,
    block_size: int = 16,
    num_splits: int = 1,
    dtype: torch.dtype = torch.float32,
) -> None:
    context = paged_context(lens, heads[1], head_dim, block_size, dtype)
    qkv = randn(len(lens), (heads[0] + 2) * head_dim, dtype=dtype)
    query = qkv[:, : heads[0] * head_dim].view(len(lens), heads[0], head_dim)
    scale = head_dim**-0.5
    expected = reference.paged_decode(query, *context, scale)
    assert_close(paged_decode(query, *context, scale, num_splits), expected)


@pytest.mark.parametrize("num_splits", [1, 2, 3, 7])
@pytest.mark.parametrize("block_size", [16, 64])
def test_decode_at_block_edges(block_size: int, num_splits: int) -> None:
    check_decode(EDGES, (7, 1), block_size=block_size, num_splits=num_splits)


@pytest.mark.parametrize(
    ("heads", "head_dim"),
    [((14, 2), 64), ((12, 2), 128), ((7, 1), 128), ((10, 2), 128), ((8, 1), 128), ((3, 3), 64)]
    + [((16, 1), 64), ((4, 2), 16), ((4, 2), 32)],
)
@DTYPES
def test_decode_of_every_group_size(
    heads: tuple[int, int], head_dim: int, dtype: torch.dtype
) -> None:
    check_decode([70, 33], heads, head_dim, block_size=32, num_splits=2, dtype=dtype)


@pytest.mark.parametrize("block_size", [16, 32, 64, 128, 256])
def test_decode_of_every_block_size(block_size: int) -> None:
    check_decode([300, 129], (6, 2), block_size=block_size, num_splits=4)


@pytest.mark.parametrize("num_splits", [5, 8, 32])
def test_decode_with_more_splits_than_blocks(num_splits: int) -> None:
    check_decode([200, 1, 0], (5, 1), block_size=64, num_splits=num_splits)


def test_large_scores_do_not_overflow() -> None:
    key, value, table, lens = paged_context([90], 1, 64, 16, torch.float32)
    query = randn(1, 7, 64) * 1e3
    expected = reference.paged_decode(query, key, value, table, lens, 1.0)
    assert_close(paged_decode(query, key, value, table, lens, 1.0, 2), expected)


def test_empty_batches_launch_nothing() -> None:
    key, value, table, lens = paged_context([20], 1, 64, 16, torch.float32)
    assert paged_decode(randn(0, 7, 64), key, value, table[:0], lens[:0], 1.0, 2).shape == (
        0,
        7,
        64,
    )
    assert rms_norm(randn(0, 64), randn(64), 1e-6).shape == (0, 64)
    assert silu_mul(randn(0, 64)).shape == (0, 32)


def test_splits_fill_the_processors() -> None:
    assert choose_num_splits(1, 2, 132) == 32
    assert choose_num_splits(8, 2, 132) == 17
    assert choose_num_splits(256, 2, 132) == 1


def test_the_kernels_compile_for_a_gpu(tmp_path: Path) -> None:
    environment = {**os.environ, "TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-m", "tests.model_runtime.compile_kernels"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    shared = {name: int(size) for name, size in map(str.split, done.stdout.splitlines())}
    assert len(shared) == 5
    assert max(shared.values()) < 99 << 10  # the smallest shared memory since Ampere
