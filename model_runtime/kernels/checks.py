"""Are the kernels, and what we ask of torch's varlen attention, right on this device?

Every check raises where it is not, and returns the errors found: the largest difference from plain
torch, as a share of the largest value (of 1, where that is larger).
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F

from model_runtime.kernels import reference
from model_runtime.kernels.measuring import Numbers, attend_varlen, capture
from model_runtime.kernels.paged_decode import paged_decode
from model_runtime.kernels.rms_norm import add_rms_norm, rms_norm
from model_runtime.kernels.rope_cache import rotate_and_cache
from model_runtime.kernels.silu_mul import silu_mul

TOLERANCES = {torch.float32: 1e-4, torch.bfloat16: 3e-2, torch.float16: 3e-3}
GROUPS = [(14, 2, 64), (12, 2, 128), (28, 4, 128), (40, 8, 128), (64, 8, 128)]  # Hq, Hkv, D
BLOCK_SIZE = 64
LENGTHS = [1, 15, 16, 17, 63, 64, 65, 0, 700, 2048]


def compare(actual: torch.Tensor, expected: torch.Tensor) -> float:
    """The error of `actual`; raises if its dtype does not excuse it."""
    difference = (actual.float() - expected.float()).abs().max()
    error = float(difference / expected.float().abs().max().clamp(min=1))
    assert error <= TOLERANCES[actual.dtype], f"error {error:.2g} in {actual.dtype}"
    return error


def _for_each_dtype(check: Callable[[torch.dtype], float]) -> Numbers:
    return {str(dtype).removeprefix("torch."): check(dtype) for dtype in TOLERANCES}


def check_rms_norm(device: torch.device) -> Numbers:
    """Alone, and with the residual added."""

    def check(dtype: torch.dtype) -> float:
        x, residual = torch.randn(2, 33, 896, device=device, dtype=dtype)
        weight, total = torch.randn_like(x[0]), residual + x
        alone = compare(rms_norm(x, weight, 1e-6), reference.rms_norm(x, weight, 1e-6))
        fused = add_rms_norm(x, residual, weight, 1e-6)
        compare(residual, total)
        return max(alone, compare(fused, reference.rms_norm(total, weight, 1e-6)))

    return _for_each_dtype(check)


def check_silu_mul(device: torch.device) -> Numbers:
    def check(dtype: torch.dtype) -> float:
        gate_up = torch.randn(33, 2 * 4864, device=device, dtype=dtype)
        return compare(silu_mul(gate_up), reference.silu_mul(gate_up))

    return _for_each_dtype(check)


def check_rotate_and_cache(device: torch.device) -> Numbers:
    """With and without head norms, at the heads of 1B and 8B."""

    def check(dtype: torch.dtype) -> float:
        cases = [(heads, normed) for heads in (GROUPS[0], GROUPS[2]) for normed in (False, True)]
        return max(_rotation_error(device, dtype, *heads, normed) for heads, normed in cases)

    return _for_each_dtype(check)


def _rotation_error(
    device: torch.device,
    dtype: torch.dtype,
    num_heads: int,
    num_kv_heads: int,
    head_dim: int,
    has_norm: bool,
) -> float:
    qkv = torch.randn(40, (num_heads + 2 * num_kv_heads) * head_dim, device=device, dtype=dtype)
    positions = torch.randint(0, 4096, (40,), device=device)
    slots = torch.randperm(4 * BLOCK_SIZE, device=device)[:40]
    slots[::7] = -1
    angles = torch.randn(4096, head_dim // 2, device=device)
    cos_sin = torch.stack((angles.cos(), angles.sin()), dim=1)
    pools = torch.zeros(2, 4, BLOCK_SIZE, num_kv_heads, head_dim, device=device, dtype=dtype)
    norms = torch.randn(2, head_dim, device=device, dtype=dtype) if has_norm else (None, None)
    wanted_qkv, wanted_pools = qkv.clone(), pools.clone()
    for rotate, row, pool in (
        (rotate_and_cache, qkv, pools),
        (reference.rotate_and_cache, wanted_qkv, wanted_pools),
    ):
        rotate(row, positions, cos_sin, slots, pool[0], pool[1], num_heads, *norms)
    return max(compare(qkv, wanted_qkv), compare(pools, wanted_pools))


def check_paged_decode(device: torch.device) -> Numbers:
    """All group sizes and several numbers of splits, over blocks in random order."""

    def check(dtype: torch.dtype) -> float:
        return max(_decode_error(device, dtype, *group, n) for group in GROUPS for n in (1, 5, 32))

    return _for_each_dtype(check)


def paged_context(
    device: torch.device, dtype: torch.dtype, batch: int, max_len: int, kv_heads: int, head_dim: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Random key and value pools, and a table that names every block of them once."""
    width = -(-max_len // BLOCK_SIZE)
    shape = (batch * width, BLOCK_SIZE, kv_heads, head_dim)
    keys, values = (torch.randn(shape, device=device, dtype=dtype) for _ in range(2))
    table = torch.randperm(batch * width, device=device).view(batch, width)
    return keys, values, table.int()


def _decode_error(
    device: torch.device, dtype: torch.dtype, heads: int, kv_heads: int, head_dim: int, splits: int
) -> float:
    context = paged_context(device, dtype, len(LENGTHS), max(LENGTHS), kv_heads, head_dim)
    lens = torch.tensor(LENGTHS, device=device, dtype=torch.int32)
    query = torch.randn(len(LENGTHS), heads, head_dim, device=device, dtype=dtype)
    output = paged_decode(query, *context, lens, head_dim**-0.5, splits)
    return compare(output, reference.paged_decode(query, *context, lens, head_dim**-0.5))


def check_varlen_gqa(device: torch.device) -> Numbers:
    """Fewer KV heads than query heads."""
    return {"error": _varlen_error(device, [1, 65, 320], [1, 65, 320])}


def check_varlen_longer_keys(device: torch.device) -> Numbers:
    """Queries are the last rows of a longer context: causal from the bottom right."""
    return {"error": _varlen_error(device, [1, 33, 256], [500, 97, 1856])}


def _varlen_error(device: torch.device, query_lens: list[int], key_lens: list[int]) -> float:
    query, key, value = _varlen_inputs(device, query_lens, key_lens)
    output = attend_varlen(query, key, value, query_lens, key_lens)()
    return compare(output, _attention(query, key, value, query_lens, key_lens))


def _varlen_inputs(
    device: torch.device, query_lens: list[int], key_lens: list[int]
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    shapes = [(sum(query_lens), 14, 64), (sum(key_lens), 2, 64), (sum(key_lens), 2, 64)]
    query, key, value = (torch.randn(s, device=device, dtype=torch.bfloat16) for s in shapes)
    return query, key, value


def _attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    query_lens: list[int],
    key_lens: list[int],
) -> torch.Tensor:
    """SDPA in float32, one sequence at a time under an explicit mask."""
    outputs = []
    parts = (query.split(query_lens), key.split(key_lens), value.split(key_lens))  # type: ignore[no-untyped-call]
    for q, k, v in zip(*parts, strict=True):
        mask = torch.ones(len(q), len(k), dtype=torch.bool, device=q.device).tril(len(k) - len(q))
        q, k, v = (x.float().transpose(0, 1)[None] for x in (q, k, v))
        output = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=True)
        outputs.append(output[0].transpose(0, 1))
    return torch.cat(outputs)


def check_varlen_in_graph(device: torch.device) -> Numbers:
    """Replays over new queries."""
    lens = [64, 256]
    query, key, value = _varlen_inputs(device, lens, lens)
    graph, output = capture(attend_varlen(query, key, value, lens, lens))
    query.normal_()
    graph.replay()
    return {"error": compare(output, _attention(query, key, value, lens, lens))}


def check_decode_in_graph(device: torch.device) -> Numbers:
    """Captured over empty contexts, replayed over long ones in other blocks."""
    context = paged_context(device, torch.bfloat16, len(LENGTHS), max(LENGTHS), 2, 64)
    lens = torch.zeros(len(LENGTHS), device=device, dtype=torch.int32)
    query = torch.randn(len(LENGTHS), 14, 64, device=device, dtype=torch.bfloat16)
    graph, output = capture(lambda: paged_decode(query, *context, lens, 0.125, 8))
    lens.copy_(torch.tensor(LENGTHS))
    context[2].copy_(context[2].flip(0))
    query.normal_()
    graph.replay()
    return {"error": compare(output, reference.paged_decode(query, *context, lens, 0.125))}


CHECKS: dict[str, Callable[[torch.device], Numbers]] = {
    "rms_norm": check_rms_norm,
    "silu_mul": check_silu_mul,
    "rotate_and_cache": check_rotate_and_cache,
    "paged_decode": check_paged_decode,
    "varlen_attn: fewer KV heads": check_varlen_gqa,
    "varlen_attn: longer keys": check_varlen_longer_keys,
    "varlen_attn in a CUDA graph": check_varlen_in_graph,
    "paged_decode in a CUDA graph": check_decode_in_graph,
}
