"""`Ops` on CUDA: our Triton kernels, and torch's FlashAttention for prompts.

Import it only where triton is installed.
"""

import inspect
from collections.abc import Callable
from functools import partial

import torch

from model_runtime.batch import Batch
from model_runtime.kernels.paged_decode import choose_num_splits, paged_decode
from model_runtime.kernels.rms_norm import add_rms_norm, rms_norm
from model_runtime.kernels.rope_cache import rotate_and_cache
from model_runtime.kernels.silu_mul import silu_mul
from model_runtime.kv_cache import KVCache
from model_runtime.native.linear import Linear
from model_runtime.native.ops import HeadShape, Rotary

_CAUSAL = (-1, 0)  # a window open to the left, aligned with the last query and the last key


class TritonOps:
    """Implements `model_runtime.native.ops.Ops`."""

    def __init__(
        self, num_processors: int, varlen: Callable[..., torch.Tensor] | None = None
    ) -> None:
        """`num_processors`: of the device; `varlen`: torch's `varlen_attn` unless given."""
        self._num_processors = num_processors
        self._varlen = load_varlen()

    def rms_norm(self, x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
        return rms_norm(x, weight, eps)

    def add_and_norm(
        self,
        residual: torch.Tensor,
        product: Linear,
        x: torch.Tensor,
        weight: torch.Tensor,
        eps: float,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        return residual, add_rms_norm(product(x), residual, weight, eps)

    def attend(
        self,
        qkv: torch.Tensor,
        heads: HeadShape,
        rotary: Rotary,
        *,
        layer: int,
        batch: Batch,
        cache: KVCache,
    ) -> torch.Tensor:
        keys, values = cache.keys[layer], cache.values[layer]
        rotate_and_cache(
            qkv,
            rotary.rows,
            rotary.cos_sin,
            batch.slot_mapping,
            keys,
            values,
            heads.num_heads,
            heads.q_norm,
            heads.k_norm,
            heads.norm_eps,
        )
        parts = qkv.view(len(qkv), -1, heads.head_dim)
        outputs = []
        if batch.prefills:
            outputs.append(self._prefill(parts[: batch.decode_start], heads, keys, values, batch))
        if len(batch.decode_context_lens):
            query = parts[batch.decode_start :, : heads.num_heads]
            outputs.append(self._decode(query, heads, keys, values, batch))
        return outputs[0] if len(outputs) == 1 else torch.cat(outputs)

    def silu_mul(self, gate_up: torch.Tensor) -> torch.Tensor:
        return silu_mul(gate_up)

    def _prefill(
        self,
        parts: torch.Tensor,
        heads: HeadShape,
        keys: torch.Tensor,
        values: torch.Tensor,
        batch: Batch,
    ) -> torch.Tensor:
        """All chunks in one call; contexts that began earlier are gathered from their blocks."""
        index = batch.varlen
        counts = [heads.num_heads, heads.num_kv_heads, heads.num_kv_heads]
        query, key, value = torch.split(parts, counts, dim=1)
        if index.context_slots is not None:
            key = keys.flatten(0, 1)[index.context_slots]
            value = values.flatten(0, 1)[index.context_slots]
        return self._varlen(
            query.contiguous(),
            key.contiguous(),
            value.contiguous(),
            index.query_starts,
            index.key_starts,
            index.max_query_len,
            index.max_key_len,
            scale=heads.scale,
            window_size=_CAUSAL,
        )

    def _decode(
        self,
        query: torch.Tensor,
        heads: HeadShape,
        keys: torch.Tensor,
        values: torch.Tensor,
        batch: Batch,
    ) -> torch.Tensor:
        return paged_decode(
            query,
            keys,
            values,
            batch.decode_block_table,
            batch.decode_context_lens,
            heads.scale,
            choose_num_splits(len(query), heads.num_kv_heads, self._num_processors),
        )


def load_varlen() -> Callable[..., torch.Tensor]:
    """torch's variable-length attention; newer versions want to be told of grouped heads."""
    from torch.nn.attention import varlen

    attend: Callable[..., torch.Tensor] = varlen.varlen_attn  # type: ignore[assignment]
    if "enable_gqa" in inspect.signature(attend).parameters:
        return partial(attend, enable_gqa=True)
    return attend
