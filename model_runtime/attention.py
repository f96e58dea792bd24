"""Paged attention over a packed batch.

The batch and the cache travel as forward arguments to every layer; nothing is global.
`gathered_attention` is the naive truth: one sequence at a time, keys gathered, one mask.
`attend` is what runs; a test compares the two.
"""

from typing import Any

import torch
import torch.nn.functional as F

from model_runtime.batch import Batch, PrefillChunk
from model_runtime.kv_cache import KVCache


def attend(
    query: torch.Tensor,  # [num_tokens, num_heads, head_dim]
    key: torch.Tensor,  # [num_tokens, num_kv_heads, head_dim]
    value: torch.Tensor,
    *,
    layer: int,
    batch: Batch,
    cache: KVCache,
    scale: float,
) -> torch.Tensor:
    """Attend to the sequences' contexts; the step's own keys and values are cached already."""
    keys, values = cache.keys[layer], cache.values[layer]
    outputs = []
    for chunk in batch.prefills:
        rows = slice(chunk.row_start, chunk.row_end)
        if chunk.is_whole_context:
            outputs.append(_causal(query[rows], key[rows], value[rows], scale))
        else:
            outputs.append(gathered_attention(query[rows], keys, values, chunk, scale))
    if batch.decode_context_lens.numel():
        outputs.append(_decode(query[batch.decode_start :], keys, values, batch, scale))
    return outputs[0] if len(outputs) == 1 else torch.cat(outputs)


def gathered_attention(
    query: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    chunk: PrefillChunk,
    scale: float,
) -> torch.Tensor:
    """One chunk's queries over its sequence's cached context, causal from the bottom right."""
    key = _pad(_gather(keys, chunk.blocks))
    value = _pad(_gather(values, chunk.blocks))
    mask = torch.ones(chunk.num_rows, len(key), dtype=torch.bool, device=query.device)
    mask = mask.tril(chunk.context_len - chunk.num_rows)
    return _sdpa(query, key, value, scale, attn_mask=mask)


def _causal(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float
) -> torch.Tensor:
    """A prompt from its beginning; the padding lies after every query, where none looks."""
    return _sdpa(query, _pad(key), _pad(value), scale, is_causal=True)


def _pad(tokens: torch.Tensor) -> torch.Tensor:
    """Zeros behind `[num_tokens, heads, head_dim]` up to a multiple of 16 tokens: on CPUs other
    lengths take up to twice the time."""
    return F.pad(tokens, (0, 0, 0, 0, 0, -len(tokens) % 16))


def _sdpa(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float, **mask: Any
) -> torch.Tensor:
    """torch's attention for one sequence, `[num_tokens, heads, head_dim]` in and out."""
    query, key, value = (x.transpose(0, 1).unsqueeze(0) for x in (query, key, value))
    output = F.scaled_dot_product_attention(query, key, value, scale=scale, enable_gqa=True, **mask)
    return output.squeeze(0).transpose(0, 1)


def _decode(
    query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, batch: Batch, scale: float
) -> torch.Tensor:
    """All decodes at once. The heads that share a KV head become query positions: torch's CPU
    kernel is 12 times slower with `enable_gqa` at one query position.
    """
    num_decodes, num_heads, head_dim = query.shape
    num_kv_heads = keys.shape[2]
    context = (num_decodes, -1, num_kv_heads, head_dim)
    # [num_decodes, num_kv_heads, max_context, head_dim]
    key = _gather(keys, batch.decode_blocks).view(context).transpose(1, 2)
    value = _gather(values, batch.decode_blocks).view(context).transpose(1, 2)
    output = F.scaled_dot_product_attention(
        query.view(num_decodes, num_kv_heads, num_heads // num_kv_heads, head_dim),
        key,
        value,
        attn_mask=batch.decode_mask,
        scale=scale,
    )
    return output.reshape(num_decodes, num_heads, head_dim)


def _gather(pool: torch.Tensor, blocks: torch.Tensor) -> torch.Tensor:
    """The tokens of `pool[blocks]`, `[num_blocks * block_size, num_kv_heads, head_dim]`.

    A block at a time: torch's indexing copies element by element.
    """
    return torch.index_select(pool.flatten(1), 0, blocks).view(-1, *pool.shape[2:])
