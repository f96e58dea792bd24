"""The Qwen2 and Qwen3 dense decoder over a packed batch, attending to the paged KV cache.

Shapes: a step's tokens are rows, `[num_tokens, hidden]`, no padding and no batch dimension.
The projection that ends a branch is added to the residual stream and normed in one go.
"""

import torch

from model_runtime.batch import Batch
from model_runtime.kv_cache import KVCache
from model_runtime.native.config import TextConfig
from model_runtime.native.linear import GatedLinear, Linear
from model_runtime.native.ops import HeadShape, Ops, Rotary
from model_runtime.native.weights import HEAD, CheckpointWeights

_ROOT = "language_model."


class DecoderLayer:
    """The weights of one layer, merged and laid out."""

    def __init__(
        self,
        config: TextConfig,
        weights: CheckpointWeights,
        layer: int,
        ops: Ops,
        *,
        is_int8: bool,
    ) -> None:
        prefix = f"{_ROOT}layers.{layer}."
        attention, mlp = f"{prefix}self_attn.", f"{prefix}mlp."
        self.input_norm = weights.take(f"{prefix}input_layernorm.weight")
        self.qkv = _merged_qkv(weights, attention, is_int8=is_int8)
        self.heads = HeadShape(
            config.num_heads,
            config.num_kv_heads,
            config.head_dim,
            config.norm_eps,
            weights.take_optional(f"{attention}q_norm.weight"),
            weights.take_optional(f"{attention}k_norm.weight"),
        )
        self.output = Linear(
            weights.take(f"{attention}o_proj.weight"),
            weights.take_optional(f"{attention}o_proj.bias"),
            is_int8=is_int8,
        )
        self.mlp_norm = weights.take(f"{prefix}post_attention_layernorm.weight")
        gate, up = (weights.take(f"{mlp}{part}_proj.weight") for part in ("gate", "up"))
        self.gated = GatedLinear(gate, up, ops.silu_mul, is_int8=is_int8)
        self.down = Linear(weights.take(f"{mlp}down_proj.weight"), None, is_int8=is_int8)


class TextDecoder:
    """Embedding table, layers, final norm and output head."""

    def __init__(
        self, config: TextConfig, weights: CheckpointWeights, ops: Ops, *, is_int8: bool = False
    ) -> None:
        self._eps = config.norm_eps
        self._ops = ops
        self._embeddings = weights.take(f"{_ROOT}embed_tokens.weight")
        self._layers = [
            DecoderLayer(config, weights, i, ops, is_int8=is_int8) for i in range(config.num_layers)
        ]
        self._norm = weights.take(f"{_ROOT}norm.weight")
        head = weights.take(HEAD) if HEAD in weights else self._embeddings
        self._head = Linear(head, None, num_rows=1, is_int8=is_int8)  # one row for each sequence
        exponents = torch.arange(0, config.head_dim, 2, dtype=torch.float32) / config.head_dim
        self._inverse_frequencies = (1.0 / config.rope_theta**exponents).to(weights.device)

    def embed(self, token_ids: torch.Tensor) -> torch.Tensor:
        return self._embeddings[token_ids]

    def forward(self, residual: torch.Tensor, batch: Batch, cache: KVCache) -> torch.Tensor:
        """`[num_tokens, hidden]` → `[num_tokens, hidden]`; spoils its argument."""
        ops, eps = self._ops, self._eps
        rotary = Rotary.at(batch.positions, self._inverse_frequencies, residual.dtype)
        next_norms = [layer.input_norm for layer in self._layers[1:]] + [self._norm]
        x = ops.rms_norm(residual, self._layers[0].input_norm, eps)
        for i, (layer, next_norm) in enumerate(zip(self._layers, next_norms, strict=True)):
            attended = ops.attend(
                layer.qkv(x), layer.heads, rotary, layer=i, batch=batch, cache=cache
            )
            residual, x = ops.add_and_norm(
                residual, layer.output, attended.flatten(1), layer.mlp_norm, eps
            )
            residual, x = ops.add_and_norm(residual, layer.down, layer.gated(x), next_norm, eps)
        return x

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        return self._head(hidden)


def _merged_qkv(weights: CheckpointWeights, prefix: str, *, is_int8: bool) -> Linear:
    names = [f"{prefix}{part}_proj" for part in "qkv"]
    bias = None
    if f"{names[0]}.bias" in weights:
        bias = weights.take_merged([f"{name}.bias" for name in names])
    weight = weights.take_merged([f"{name}.weight" for name in names])
    return Linear(weight, bias, is_int8=is_int8)
