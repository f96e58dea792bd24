"""Matrix products with weights that are laid out for the device once, at load.

On the CPU, oneDNN re-lays bfloat16 weights for its kernels at every call unless they are
packed before; packed ones run up to twice as fast for few rows, and take activations and
products into the kernel. The packing operators are the ones that torch's own compiler
emits; `can_pack` tries them at start, and without them the plain product is taken.
"""

from functools import cache
from typing import Any, Literal

import torch
import torch.nn.functional as F

Activation = Literal["none", "gelu", "swish"]
_MANY_ROWS = 64  # a layout for prompts and tiles; a single row is hardly slower with it


class Linear:
    """`x @ weight.T + bias`, with an optional activation after it."""

    def __init__(
        self,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        activation: Activation = "none",
        *,
        num_rows: int = _MANY_ROWS,
        is_int8: bool = False,
    ) -> None:
        """`weight`: `[out, in]` on its device. `num_rows`: what the layout is chosen for.

        `is_int8`: whole-number products, each row of weights and of inputs scaled by its own
        largest value; twice as fast for few rows as bfloat16, and less exact.
        """
        self._bias = bias
        self._activation = activation
        self._int8 = _quantize(weight, bias) if is_int8 else None
        self._is_packed = self._int8 is None and _is_packable(weight)
        self._weight = _pack(weight, num_rows) if self._is_packed else weight
        if is_int8:
            self._weight = weight.new_empty(0)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """`[..., in]` → `[..., out]`."""
        if self._is_packed:
            return _packed_linear(x, self._weight, self._bias, self._activation)
        return _activate(self._product(x), self._activation)

    def add_to(self, residual: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """`residual + x @ weight.T + bias`; may reuse `residual`'s memory."""
        if self._is_packed:
            return _packed_binary(x, residual, self._weight, self._bias, "add")
        return residual.add_(self._product(x))

    def _product(self, x: torch.Tensor) -> torch.Tensor:
        if self._int8 is None:
            return F.linear(x, self._weight, self._bias)
        product: torch.Tensor = torch.ops.quantized.linear_dynamic(x.float(), self._int8, False)
        return product.to(x.dtype)


class GatedLinear:
    """`silu(x @ gate.T) * (x @ up.T)`: the first half of a gated MLP.

    Packed, the gate's activation and the product with it happen inside the two kernels, so
    nothing of the intermediate size is read again. Elsewhere one merged product is computed.
    """

    def __init__(
        self, gate: torch.Tensor, up: torch.Tensor, silu_mul: Any, *, is_int8: bool = False
    ) -> None:
        """`gate`, `up`: `[intermediate, hidden]`; `silu_mul` joins a merged product's halves."""
        self._silu_mul = silu_mul
        self._is_packed = not is_int8 and _is_packable(gate)
        if self._is_packed:
            self._packed = _pack(gate), _pack(up)
        else:
            self._merged = Linear(torch.cat([gate, up]), None, is_int8=is_int8)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """`[num_tokens, hidden]` → `[num_tokens, intermediate]`."""
        if not self._is_packed:
            output: torch.Tensor = self._silu_mul(self._merged(x))
            return output
        gate, up = self._packed
        return _packed_binary(x, _packed_linear(x, gate, None, "swish"), up, None, "mul")


def _quantize(weight: torch.Tensor, bias: torch.Tensor | None) -> Any:
    """int8 weights with a scale per output, packed for torch's dynamic kernels."""
    wide = weight.float()
    scales = wide.abs().amax(dim=1).clamp_min(1e-12) / 127
    zeros = torch.zeros(len(scales), dtype=torch.long)
    whole = torch.quantize_per_channel(wide, scales, zeros, 0, torch.qint8)
    return torch.ops.quantized.linear_prepack(whole, None if bias is None else bias.float())


def _activate(x: torch.Tensor, activation: Activation) -> torch.Tensor:
    if activation == "gelu":
        return F.gelu(x)
    return F.silu(x) if activation == "swish" else x


def _is_packable(weight: torch.Tensor) -> bool:
    is_half_on_cpu = weight.device.type == "cpu" and weight.dtype == torch.bfloat16
    return is_half_on_cpu and can_pack()


def _pack(weight: torch.Tensor, num_rows: int = _MANY_ROWS) -> torch.Tensor:
    packed: torch.Tensor = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), num_rows)
    return packed


def _packed_linear(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, activation: Activation
) -> torch.Tensor:
    output: torch.Tensor = torch.ops.mkldnn._linear_pointwise(
        x, weight, bias, activation, [], "none" if activation == "gelu" else ""
    )
    return output


def _packed_binary(
    x: torch.Tensor,
    other: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    operation: Literal["add", "mul"],
) -> torch.Tensor:
    """The product, then `operation` with `other`, of the result's shape."""
    output: torch.Tensor = torch.ops.mkldnn._linear_pointwise.binary(
        x, other, weight, bias, operation
    )
    return output


@cache
def can_pack() -> bool:
    """Whether this build of torch packs bfloat16 weights and computes the same with them."""
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    generator = torch.Generator().manual_seed(0)
    x, weight = (torch.randn(rows, 64, generator=generator).bfloat16() for rows in (4, 96))
    bias = torch.randn(96, generator=generator).bfloat16()
    try:
        if not torch.ops.mkldnn._is_mkldnn_bf16_supported():
            return False
        packed = _packed_linear(x, _pack(weight), bias, "gelu")
    except (RuntimeError, AttributeError):
        return False
    return torch.allclose(packed, F.gelu(F.linear(x, weight, bias)), rtol=0.05, atol=0.05)
