"""Between the merged QKV GEMM and attention: rotate q and k in place, store k and v in the cache.

A program takes one token and a few of its heads. A head's two halves rotate against each other
(the "neox" manner of transformers' `apply_rotary_pos_emb`), in float32.
"""

import torch
import triton
import triton.language as tl

HEADS_PER_PROGRAM = 8


def rotate_and_cache(
    qkv: torch.Tensor,
    positions: torch.Tensor,
    cos_sin: torch.Tensor,
    slot_mapping: torch.Tensor,
    key_pool: torch.Tensor,
    value_pool: torch.Tensor,
    num_heads: int,
    q_norm: torch.Tensor | None = None,
    k_norm: torch.Tensor | None = None,
    eps: float = 1e-6,
) -> None:
    """Rotate q and k of `qkv` in place; write the rotated k, and v, to the pools.

    qkv: `[N, (Hq + 2 * Hkv) * D]`, rows may be strided.
    positions, slot_mapping: `[N]` integers; slot -1 writes nothing to the pools.
    cos_sin: `[max_len, 2, D / 2]` float32, cosines then sines.
    key_pool, value_pool: `[num_blocks, block_size, Hkv, D]`, contiguous.
    num_heads: Hq.
    q_norm, k_norm: `[D]`, weights of a per-head RMSNorm before the rotation (Qwen3), or neither.
    """
    num_kv_heads, head_dim = key_pool.shape[2:]
    total_heads = num_heads + 2 * num_kv_heads
    assert qkv.shape[1] == total_heads * head_dim and qkv.stride(1) == 1
    assert cos_sin.shape[1:] == (2, head_dim // 2) and cos_sin.is_contiguous()
    assert cos_sin.dtype == torch.float32
    assert key_pool.is_contiguous() and value_pool.is_contiguous()
    assert (q_norm is None) == (k_norm is None)
    if not len(qkv):
        return
    _rotate_and_cache_kernel[(len(qkv), triton.cdiv(total_heads, HEADS_PER_PROGRAM))](
        qkv,
        qkv.stride(0),
        positions,
        cos_sin,
        slot_mapping,
        key_pool,
        value_pool,
        qkv if q_norm is None else q_norm,
        qkv if k_norm is None else k_norm,
        eps,
        NUM_HEADS=num_heads,
        NUM_KV_HEADS=num_kv_heads,
        HALF=head_dim // 2,
        HAS_NORM=q_norm is not None,
        HEADS=HEADS_PER_PROGRAM,
        num_warps=2,
    )


@triton.jit
def _rotate_and_cache_kernel(
    qkv_ptr: tl.tensor,  # [N, (NUM_HEADS + 2 * NUM_KV_HEADS) * 2 * HALF]
    qkv_stride: int,
    positions_ptr: tl.tensor,  # [N]
    cos_sin_ptr: tl.tensor,  # [max_len, 2, HALF]
    slots_ptr: tl.tensor,  # [N]
    key_pool_ptr: tl.tensor,  # [num_slots, NUM_KV_HEADS, 2 * HALF]
    value_pool_ptr: tl.tensor,
    q_norm_ptr: tl.tensor,  # [2 * HALF], read only with HAS_NORM
    k_norm_ptr: tl.tensor,
    eps: float,
    NUM_HEADS: tl.constexpr,
    NUM_KV_HEADS: tl.constexpr,
    HALF: tl.constexpr,  # power of two
    HAS_NORM: tl.constexpr,
    HEADS: tl.constexpr,  # of q, k and v, in this order, that the program takes
) -> None:
    token = tl.program_id(0).to(tl.int64)
    heads = tl.program_id(1) * HEADS + tl.arange(0, HEADS)[:, None]
    columns = tl.arange(0, HALF)[None, :]
    is_query = heads < NUM_HEADS
    is_rotated = heads < NUM_HEADS + NUM_KV_HEADS
    inside = heads < NUM_HEADS + 2 * NUM_KV_HEADS
    head_ptr = qkv_ptr + token * qkv_stride + heads * (2 * HALF) + columns  # [HEADS, HALF]
    raw_lower = tl.load(head_ptr, mask=inside, other=0.0)
    raw_upper = tl.load(head_ptr + HALF, mask=inside, other=0.0)
    lower, upper = raw_lower.to(tl.float32), raw_upper.to(tl.float32)

    if HAS_NORM:
        squares = tl.sum(lower * lower + upper * upper, axis=1)[:, None]
        factor = tl.rsqrt(squares / (2 * HALF) + eps)
        q_norm_ptr, k_norm_ptr = q_norm_ptr + columns, k_norm_ptr + columns
        lower_weight = tl.where(is_query, tl.load(q_norm_ptr), tl.load(k_norm_ptr))
        upper_weight = tl.where(is_query, tl.load(q_norm_ptr + HALF), tl.load(k_norm_ptr + HALF))
        lower = _normed(lower, factor, lower_weight, qkv_ptr.dtype.element_ty)
        upper = _normed(upper, factor, upper_weight, qkv_ptr.dtype.element_ty)

    angle_ptr = cos_sin_ptr + tl.load(positions_ptr + token).to(tl.int64) * (2 * HALF) + columns
    cos, sin = tl.load(angle_ptr), tl.load(angle_ptr + HALF)
    rotated_lower = (lower * cos - upper * sin).to(raw_lower.dtype)
    rotated_upper = (upper * cos + lower * sin).to(raw_lower.dtype)
    tl.store(head_ptr, rotated_lower, mask=is_rotated)
    tl.store(head_ptr + HALF, rotated_upper, mask=is_rotated)

    slot = tl.load(slots_ptr + token).to(tl.int64)
    if slot < 0:  # a row that only pads the batch
        return
    first_head = tl.where(is_rotated, NUM_HEADS, NUM_HEADS + NUM_KV_HEADS)  # of keys or of values
    pool_offset = (slot * NUM_KV_HEADS + heads - first_head) * (2 * HALF) + columns
    is_key = (heads >= NUM_HEADS) & is_rotated
    tl.store(key_pool_ptr + pool_offset, rotated_lower, mask=is_key)
    tl.store(key_pool_ptr + pool_offset + HALF, rotated_upper, mask=is_key)
    is_value = (heads >= NUM_HEADS + NUM_KV_HEADS) & inside
    tl.store(value_pool_ptr + pool_offset, raw_lower, mask=is_value)
    tl.store(value_pool_ptr + pool_offset + HALF, raw_upper, mask=is_value)


@triton.jit
def _normed(x: tl.tensor, factor: tl.tensor, weight: tl.tensor, dtype: tl.constexpr) -> tl.tensor:
    """`x * factor`, rounded to `dtype`, times the weights, rounded again."""
    return ((x * factor).to(dtype).to(tl.float32) * weight.to(tl.float32)).to(dtype).to(tl.float32)
