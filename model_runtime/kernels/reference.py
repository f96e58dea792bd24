"""What the kernels compute, in plain torch: the truth that tests and the GPU check compare with.

Rounding happens where transformers' Qwen2 and Qwen3 round, but for the rotation, which is float32.
"""

import torch
import torch.nn.functional as F


def rms_norm(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    """`x` normalised over its last dimension, times `weight`."""
    wide = x.float()
    normed = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + eps)
    return weight * normed.to(x.dtype)


def silu_mul(gate_up: torch.Tensor) -> torch.Tensor:
    """`[N, 2I] -> [N, I]`, gate first."""
    gate, up = gate_up.chunk(2, dim=-1)
    return F.silu(gate) * up


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
    """See `rope_cache.rotate_and_cache`."""
    num_kv_heads, head_dim = key_pool.shape[2:]
    heads = qkv.view(len(qkv), -1, head_dim)
    query, key, value = heads.tensor_split([num_heads, num_heads + num_kv_heads], dim=1)
    for part, weight in ((query, q_norm), (key, k_norm)):
        normed = part if weight is None else rms_norm(part, weight, eps)
        part.copy_(_rotate(normed, cos_sin[positions]))
    written = slot_mapping >= 0
    key_pool.flatten(0, 1)[slot_mapping[written]] = key[written]
    value_pool.flatten(0, 1)[slot_mapping[written]] = value[written]


def _rotate(x: torch.Tensor, cos_sin: torch.Tensor) -> torch.Tensor:
    """`x` `[N, heads, D]` rotated by `cos_sin` `[N, 2, D / 2]`: the first half with the second."""
    cos, sin = cos_sin[:, None, 0], cos_sin[:, None, 1]
    lower, upper = x.float().chunk(2, dim=-1)
    return torch.cat((lower * cos - upper * sin, upper * cos + lower * sin), dim=-1)


def paged_decode(
    query: torch.Tensor,
    key_pool: torch.Tensor,
    value_pool: torch.Tensor,
    block_table: torch.Tensor,
    context_lens: torch.Tensor,
    scale: float,
) -> torch.Tensor:
    """See `paged_decode.paged_decode`. One sequence at a time, float32 inside."""
    output = torch.zeros_like(query)
    group = query.shape[1] // key_pool.shape[2]
    for row, length in enumerate(context_lens.tolist()):
        if length == 0:
            continue
        key, value = (
            pool[block_table[row].long()].flatten(0, 1)[:length].float()
            for pool in (key_pool, value_pool)
        )
        key, value = (x.repeat_interleave(group, dim=1) for x in (key, value))
        weights = torch.einsum("hd,nhd->hn", query[row].float(), key * scale).softmax(-1)
        output[row] = torch.einsum("hn,nhd->hd", weights, value)
    return output
