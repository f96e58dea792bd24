"""The small operations between the matrix products: norms, rotary positions, gated product.

`Ops` is what the layers ask for; `TorchOps` computes them with plain torch, anywhere.
"""

from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F


@dataclass(frozen=True, slots=True)
class RotaryRows:
    """The rotation of each row of a step, shared by all layers: `[num_tokens, 1, head_dim]`.

    `sin` is negative in its first half, so that rotating is `x * cos + swapped(x) * sin`.
    """

    cos: torch.Tensor
    sin: torch.Tensor

    @classmethod
    def at(
        cls, positions: torch.Tensor, inverse_frequencies: torch.Tensor, dtype: torch.dtype
    ) -> "RotaryRows":
        """Angles in float32, as in RoFormer (Su et al., 2021), then `dtype`."""
        angles = positions[:, None, None].float() * inverse_frequencies
        cos, sin = angles.cos(), angles.sin()
        return cls(torch.cat([cos, cos], -1).to(dtype), torch.cat([-sin, sin], -1).to(dtype))


class Ops(Protocol):
    """Element-wise work of a decoder layer, fused where the device allows it."""

    def rms_norm(self, x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
        """Root-mean-square norm over the last dimension (Zhang and Sennrich, 2019)."""
        ...

    def rotate(self, heads: torch.Tensor, rotary: RotaryRows) -> torch.Tensor:
        """Rotary positions on `[num_tokens, heads, head_dim]`."""
        ...

    def silu_mul(self, gate_up: torch.Tensor) -> torch.Tensor:
        """`[n, 2 * intermediate]` → `[n, intermediate]`, the gate first."""
        ...


class TorchOps:
    """Implements `Ops` with torch's own operators."""

    def rms_norm(self, x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
        if x.dtype == torch.float32:
            return F.rms_norm(x, (x.shape[-1],), weight, eps)
        # The same in float32 memory of its own: torch's is made of more passes on CPUs.
        wide = x.float()
        scale = torch.linalg.vector_norm(wide, dim=-1, keepdim=True)
        scale = scale.square_().div_(x.shape[-1]).add_(eps).rsqrt_()
        return wide.mul_(scale).to(x.dtype).mul_(weight)

    def rotate(self, heads: torch.Tensor, rotary: RotaryRows) -> torch.Tensor:
        swapped = heads.roll(heads.shape[-1] // 2, dims=-1)
        return torch.addcmul(heads * rotary.cos, swapped, rotary.sin)

    def silu_mul(self, gate_up: torch.Tensor) -> torch.Tensor:
        gate, up = gate_up.chunk(2, dim=-1)
        return F.silu(gate).mul_(up)
