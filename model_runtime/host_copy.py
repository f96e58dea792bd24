"""Brings a tensor to the host without stopping the device.

On CUDA the copy is queued behind what computes the tensor, and before anything launched later:
waiting for it waits for that work alone. On the CPU there is nothing to do.
"""

import torch


class HostCopy:
    """A tensor on its way to the host."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self._tensor = tensor
        self._arrived: torch.cuda.Event | None = None
        if tensor.is_cuda:
            self._tensor = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
            self._tensor.copy_(tensor, non_blocking=True)
            self._arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._arrived.record()

    def fetch(self) -> torch.Tensor:
        """The tensor on the host; waits until it has arrived."""
        if self._arrived is not None:
            self._arrived.synchronize()
        return self._tensor
