"""What a decoder layer does between its matrix products, on any device.

`Ops` is what the layers ask for; `TorchOps` computes it with plain torch, and
`model_runtime.native.triton_ops` with fused kernels.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import torch
import torch.nn.functional as F

from model_runtime.attention import attend
from model_runtime.batch import Batch
from model_runtime.kv_cache import KVCache
from model_runtime.native.linear import Linear

_FEW_ROWS = 4


@dataclass(frozen=True, slots=True)
class HeadShape:
    """How a row of the merged q/k/v product is made up."""

    num_heads: int
    num_kv_heads: int
    head_dim: int
    norm_eps: float
    q_norm: torch.Tensor | None  # [head_dim], Qwen3
    k_norm: torch.Tensor | None

    @property
    def scale(self) -> float:
        """Of the attention scores."""
        return float(self.head_dim**-0.5)


@dataclass(frozen=True)
class Rotary:
    """The rotation of each row of a step, the same in all layers (RoFormer, Su et al., 2021)."""

    rows: torch.Tensor  # [num_tokens]: 0, 1, 2, ...
    cos_sin: torch.Tensor  # [num_tokens, 2, head_dim / 2] float32: cosines, then sines
    dtype: torch.dtype

    @classmethod
    def at(
        cls, positions: torch.Tensor, inverse_frequencies: torch.Tensor, dtype: torch.dtype
    ) -> "Rotary":
        angles = positions[:, None].float() * inverse_frequencies
        cos_sin = torch.stack([angles.cos(), angles.sin()], dim=1)
        return cls(torch.arange(len(positions), device=positions.device), cos_sin, dtype)

    @cached_property
    def factors(self) -> tuple[torch.Tensor, torch.Tensor]:
        """`[num_tokens, 1, head_dim]` each: a head becomes `x * cos + swapped(x) * sin`."""
        cos, sin = self.cos_sin.to(self.dtype).unsqueeze(2).unbind(1)
        return torch.cat([cos, cos], -1), torch.cat([-sin, sin], -1)


class Ops(Protocol):
    """Work of a decoder layer, fused where the device allows it."""

    def rms_norm(self, x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
        """Root-mean-square norm over the last dimension (Zhang and Sennrich, 2019)."""
        ...

    def add_and_norm(
        self,
        residual: torch.Tensor,
        product: Linear,
        x: torch.Tensor,
        weight: torch.Tensor,
        eps: float,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """`residual + product(x)`, and its norm. May reuse the residual's memory."""
        ...

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
        """Rotate, write keys and values to the cache, attend.

        `qkv`: `[num_tokens, (heads + 2 * kv_heads) * head_dim]`; → `[num_tokens, heads, head_dim]`.
        """
        ...

    def silu_mul(self, gate_up: torch.Tensor) -> torch.Tensor:
        """`[n, 2 * intermediate]` → `[n, intermediate]`, the gate first."""
        ...


class TorchOps:
    """Implements `Ops` with torch's own operators."""

    def rms_norm(self, x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
        if x.dtype == torch.float32:
            return F.rms_norm(x, (x.shape[-1],), weight, eps)
        if len(x) <= _FEW_ROWS:
            return _rms_norm_few(x, weight, eps)
        # The same in float32 memory of its own: torch's is made of more passes on CPUs.
        wide = x.float()
        scale = torch.linalg.vector_norm(wide, dim=-1, keepdim=True)
        scale = scale.square_().div_(x.shape[-1]).add_(eps).rsqrt_()
        return wide.mul_(scale).to(x.dtype).mul_(weight)

    def add_and_norm(
        self,
        residual: torch.Tensor,
        product: Linear,
        x: torch.Tensor,
        weight: torch.Tensor,
        eps: float,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        residual = product.add_to(residual, x)
        return residual, self.rms_norm(residual, weight, eps)

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
        counts = [heads.num_heads, heads.num_kv_heads]
        parts = qkv.view(len(qkv), -1, heads.head_dim)
        rotated, value = torch.split(parts, [sum(counts), heads.num_kv_heads], dim=1)
        if heads.q_norm is not None and heads.k_norm is not None:
            query, key = torch.split(rotated, counts, dim=1)
            query = self.rms_norm(query, heads.q_norm, heads.norm_eps)
            key = self.rms_norm(key, heads.k_norm, heads.norm_eps)
            rotated = torch.cat([query, key], dim=1)
        query, key = torch.split(_rotate(rotated, rotary), counts, dim=1)
        cache.write(layer, batch.slot_mapping, key, value)
        return attend(query, key, value, layer=layer, batch=batch, cache=cache, scale=heads.scale)

    def silu_mul(self, gate_up: torch.Tensor) -> torch.Tensor:
        gate, up = gate_up.chunk(2, dim=-1)
        return F.silu(gate).mul_(up)


def _rms_norm_few(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    """The layer norm of `[x, -x]`, whose mean is zero: one kernel, where each operator costs
    more than its arithmetic."""
    width = x.shape[-1]
    normed = F.layer_norm(torch.cat([x, -x], -1), (2 * width,), None, None, eps)
    return normed[..., :width] * weight


def _rotate(heads: torch.Tensor, rotary: Rotary) -> torch.Tensor:
    cos, sin = rotary.factors
    swapped = heads.roll(heads.shape[-1] // 2, dims=-1)
    return torch.addcmul(heads * cos, swapped, sin)
