"""The gated activation of the MLP, `silu(gate) * up`, straight from the merged GEMM's output."""

import torch
import triton
import triton.language as tl

BLOCK = 1024


def silu_mul(gate_up: torch.Tensor) -> torch.Tensor:
    """`silu(gate) * up`.

    gate_up: `[N, 2I]`, contiguous, the gate in the first half. Returns `[N, I]`.
    """
    assert gate_up.is_contiguous() and gate_up.shape[1] % 2 == 0
    num_rows, size = gate_up.shape[0], gate_up.shape[1] // 2
    output = gate_up.new_empty(num_rows, size)
    if num_rows:
        grid = (num_rows, triton.cdiv(size, BLOCK))
        _silu_mul_kernel[grid](gate_up, output, size, BLOCK=BLOCK, num_warps=4)
    return output


@triton.jit
def _silu_mul_kernel(
    gate_up_ptr: tl.tensor,  # [N, 2 * size]
    output_ptr: tl.tensor,  # [N, size]
    size: int,
    BLOCK: tl.constexpr,
) -> None:
    row = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = columns < size
    gate_ptr = gate_up_ptr + row * 2 * size + columns
    gate = tl.load(gate_ptr, mask=inside, other=0.0).to(tl.float32)
    up = tl.load(gate_ptr + size, mask=inside, other=0.0).to(tl.float32)
    # Rounded before the multiplication, as two torch operations would.
    activated = (gate * tl.sigmoid(gate)).to(output_ptr.dtype.element_ty).to(tl.float32)
    tl.store(output_ptr + row * size + columns, activated * up, mask=inside)
