"""RMSNorm over the last dimension, alone or fused with the addition of the residual stream.

One program per row: the row is read once, the mean square is taken in float32.
"""

import torch
import triton
import triton.language as tl


def rms_norm(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    """The normalised rows of `x`, times `weight`.

    x: `[N, H]`, contiguous. weight: `[H]`. Returns `[N, H]` in the dtype of `x`.
    """
    return _launch(x, None, weight, eps)


def add_rms_norm(
    x: torch.Tensor, residual: torch.Tensor, weight: torch.Tensor, eps: float
) -> torch.Tensor:
    """Add `x` to `residual` in place and return the normalised sum, times `weight`.

    x, residual: `[N, H]`, contiguous; the sum is rounded to the dtype of `residual`.
    weight: `[H]`. Returns `[N, H]` in the dtype of `x`.
    """
    assert residual.shape == x.shape and residual.is_contiguous()
    return _launch(x, residual, weight, eps)


def _launch(
    x: torch.Tensor, residual: torch.Tensor | None, weight: torch.Tensor, eps: float
) -> torch.Tensor:
    assert x.is_contiguous() and weight.is_contiguous()
    num_rows, size = x.shape
    output = torch.empty_like(x)
    if num_rows:
        block = triton.next_power_of_2(size)
        _rms_norm_kernel[(num_rows,)](
            x,
            x if residual is None else residual,
            weight,
            output,
            size,
            eps,
            HAS_RESIDUAL=residual is not None,
            BLOCK=block,
            num_warps=min(max(block // 256, 1), 16),
        )
    return output


@triton.jit
def _rms_norm_kernel(
    x_ptr: tl.tensor,  # [N, size]
    residual_ptr: tl.tensor,  # [N, size], read and written only with HAS_RESIDUAL
    weight_ptr: tl.tensor,  # [size]
    output_ptr: tl.tensor,  # [N, size]
    size: int,
    eps: float,
    HAS_RESIDUAL: tl.constexpr,
    BLOCK: tl.constexpr,  # power of two >= size
) -> None:
    columns = tl.arange(0, BLOCK)
    inside = columns < size
    offsets = tl.program_id(0).to(tl.int64) * size + columns
    x = tl.load(x_ptr + offsets, mask=inside, other=0.0).to(tl.float32)
    if HAS_RESIDUAL:
        residual = tl.load(residual_ptr + offsets, mask=inside, other=0.0).to(tl.float32)
        total = (residual + x).to(residual_ptr.dtype.element_ty)
        tl.store(residual_ptr + offsets, total, mask=inside)
        x = total.to(tl.float32)
    normed = x * tl.rsqrt(tl.sum(x * x, axis=0) / size + eps)
    # Rounded before the multiplication, as transformers does it.
    normed = normed.to(output_ptr.dtype.element_ty).to(tl.float32)
    weight = tl.load(weight_ptr + columns, mask=inside, other=0.0).to(tl.float32)
    tl.store(output_ptr + offsets, normed * weight, mask=inside)
