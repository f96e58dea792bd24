"""The Qwen2 and Qwen3 dense decoder over a packed batch, attending to the paged KV cache.

Shapes: a step's tokens are rows, `[num_tokens, hidden]`, no padding and no batch dimension.
The projections that end a branch add to the residual stream as they are computed.
"""

import torch

from model_runtime.attention import attend
from model_runtime.batch import Batch
from model_runtime.kv_cache import KVCache
from model_runtime.native.config import TextConfig
from model_runtime.native.linear import GatedLinear, Linear
from model_runtime.native.ops import Ops, RotaryRows
from model_runtime.native.weights import HEAD, CheckpointWeights

_ROOT = "language_model."


class Attention:
    """Merged q/k/v projection, rotary positions, paged attention, output projection."""

    def __init__(
        self, config: TextConfig, weights: CheckpointWeights, prefix: str, layer: int, ops: Ops
    ) -> None:
        self._config = config
        self._layer = layer
        self._ops = ops
        names = [f"{prefix}{part}_proj" for part in "qkv"]
        has_bias = f"{names[0]}.bias" in weights
        self._qkv = Linear(
            weights.take_merged([f"{name}.weight" for name in names]),
            weights.take_merged([f"{name}.bias" for name in names]) if has_bias else None,
        )
        self._output = Linear(
            weights.take(f"{prefix}o_proj.weight"), weights.take_optional(f"{prefix}o_proj.bias")
        )
        self._q_norm = weights.take_optional(f"{prefix}q_norm.weight")  # Qwen3
        self._k_norm = weights.take_optional(f"{prefix}k_norm.weight")

    def add_to(
        self,
        residual: torch.Tensor,
        x: torch.Tensor,
        rotary: RotaryRows,
        batch: Batch,
        cache: KVCache,
    ) -> torch.Tensor:
        """`residual` and what the tokens `x`, `[num_tokens, hidden]`, attend to."""
        config = self._config
        query, key, value = self._project(x, rotary)
        cache.write(self._layer, batch.slot_mapping, key, value)
        output = attend(
            query,
            key,
            value,
            layer=self._layer,
            batch=batch,
            cache=cache,
            scale=config.head_dim**-0.5,
        )
        return self._output.add_to(residual, output.flatten(1))

    def _project(
        self, x: torch.Tensor, rotary: RotaryRows
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Rotated queries and keys, and values: `[num_tokens, heads, head_dim]` each."""
        config = self._config
        heads = self._qkv(x).view(len(x), -1, config.head_dim)
        num_rotated = config.num_heads + config.num_kv_heads
        rotated, value = torch.split(heads, [num_rotated, config.num_kv_heads], dim=1)
        if self._q_norm is not None and self._k_norm is not None:
            query, key = torch.split(rotated, [config.num_heads, config.num_kv_heads], dim=1)
            query = self._ops.rms_norm(query, self._q_norm, config.norm_eps)
            key = self._ops.rms_norm(key, self._k_norm, config.norm_eps)
            rotated = torch.cat([query, key], dim=1)
        rotated = self._ops.rotate(rotated, rotary)
        return rotated[:, : config.num_heads], rotated[:, config.num_heads :], value


class DecoderLayer:
    """One layer's attention and gated MLP, and the norms before each."""

    def __init__(
        self, config: TextConfig, weights: CheckpointWeights, layer: int, ops: Ops
    ) -> None:
        prefix = f"{_ROOT}layers.{layer}."
        self.input_norm = weights.take(f"{prefix}input_layernorm.weight")
        self.attention = Attention(config, weights, f"{prefix}self_attn.", layer, ops)
        self.mlp_norm = weights.take(f"{prefix}post_attention_layernorm.weight")
        self.gated = GatedLinear(
            weights.take(f"{prefix}mlp.gate_proj.weight"),
            weights.take(f"{prefix}mlp.up_proj.weight"),
            ops.silu_mul,
        )
        self.down = Linear(weights.take(f"{prefix}mlp.down_proj.weight"), None)


class TextDecoder:
    """Embedding table, layers, final norm and output head."""

    def __init__(self, config: TextConfig, weights: CheckpointWeights, ops: Ops) -> None:
        self._config = config
        self._ops = ops
        self._embeddings = weights.take(f"{_ROOT}embed_tokens.weight")
        self._layers = [DecoderLayer(config, weights, i, ops) for i in range(config.num_layers)]
        self._norm = weights.take(f"{_ROOT}norm.weight")
        head = weights.take(HEAD) if HEAD in weights else self._embeddings
        self._head = Linear(head, None, num_rows=1)  # one row for each sequence
        exponents = torch.arange(0, config.head_dim, 2, dtype=torch.float32) / config.head_dim
        self._inverse_frequencies = (1.0 / config.rope_theta**exponents).to(weights.device)

    def embed(self, token_ids: torch.Tensor) -> torch.Tensor:
        return self._embeddings[token_ids]

    def forward(self, residual: torch.Tensor, batch: Batch, cache: KVCache) -> torch.Tensor:
        """`[num_tokens, hidden]` → `[num_tokens, hidden]`; spoils its argument."""
        eps = self._config.norm_eps
        rotary = RotaryRows.at(batch.positions, self._inverse_frequencies, residual.dtype)
        for layer in self._layers:
            x = self._ops.rms_norm(residual, layer.input_norm, eps)
            residual = layer.attention.add_to(residual, x, rotary, batch, cache)
            x = self._ops.rms_norm(residual, layer.mlp_norm, eps)
            residual = layer.down.add_to(residual, layer.gated(x))
        return self._ops.rms_norm(residual, self._norm, eps)

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        return self._head(hidden)
