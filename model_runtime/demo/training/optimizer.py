"""Muon for matrices and AdamW for the rest, on float32 masters of a bfloat16 model."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from model_runtime.demo.training import parallel

MAX_GRADIENT_NORM = 1.0
WEIGHT_DECAY = 0.05


class MasterOptimizer:
    """Accumulates gradients of low-precision weights and updates them through float32 masters."""

    def __init__(
        self, parameters: Iterable[tuple[str, nn.Parameter]], vision_factor: float = 1.0
    ) -> None:
        named = {name: p for name, p in parameters if p.requires_grad}
        self._weights = list(named.values())
        self._masters = {name: _master(p) for name, p in named.items()}
        matrices = {n: m for n, m in self._masters.items() if _is_matrix(n, m)}
        rest = [m for n, m in self._masters.items() if n not in matrices]
        groups = [
            {"params": [m for n, m in matrices.items() if "vision" in n], "factor": vision_factor},
            {"params": [m for n, m in matrices.items() if "vision" not in n], "factor": 1.0},
        ]
        self._muon = torch.optim.Muon(
            [g for g in groups if g["params"]],
            weight_decay=WEIGHT_DECAY,
            adjust_lr_fn="match_rms_adamw",
        )
        self._adam = torch.optim.AdamW(rest, betas=(0.9, 0.98), weight_decay=0.0, fused=True)

    def accumulate(self) -> None:
        """Move the weights' gradients into the masters'."""
        pairs = zip(self._weights, self._masters.values(), strict=True)
        used = [(w, m) for w, m in pairs if w.grad is not None]
        grads = [_gradient(m) for _, m in used]
        torch._foreach_add_(grads, [w.grad.float() for w, _ in used if w.grad is not None])
        for weight, _ in used:
            weight.grad = None

    @torch.no_grad()
    def step(self, learning_rate: float) -> float:
        """Sum the gradients over processes, clip, update; returns the gradient norm."""
        grads = [_gradient(m) for m in self._masters.values()]
        flat = parallel.sum_(torch.cat([g.flatten() for g in grads]))
        norm = float(flat.norm())
        flat.mul_(min(1.0, MAX_GRADIENT_NORM / (norm + 1e-6)))
        pieces = torch.split(flat, [g.numel() for g in grads])
        for grad, piece in zip(grads, pieces, strict=True):
            grad.copy_(piece.view_as(grad))
        self._set_learning_rate(learning_rate)
        self._muon.step()  # type: ignore[no-untyped-call]
        self._adam.step()
        torch._foreach_zero_(grads)
        self._publish()
        return norm

    def masters(self) -> dict[str, torch.Tensor]:
        """Float32 weights by name."""
        return {name: m.detach().clone() for name, m in self._masters.items()}

    def state_dict(self) -> dict[str, Any]:
        return {
            "masters": self.masters(),
            "muon": self._muon.state_dict(),
            "adam": self._adam.state_dict(),
        }

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Any]) -> None:
        for name, master in self._masters.items():
            master.copy_(state["masters"][name])
        self._muon.load_state_dict(state["muon"])
        self._adam.load_state_dict(state["adam"])
        self._publish()

    def _set_learning_rate(self, learning_rate: float) -> None:
        for group in [*self._muon.param_groups, *self._adam.param_groups]:
            group["lr"] = learning_rate * group.get("factor", 1.0)

    @torch.no_grad()
    def _publish(self) -> None:
        for weight, master in zip(self._weights, self._masters.values(), strict=True):
            weight.copy_(master)


def _is_matrix(name: str, weight: torch.Tensor) -> bool:
    return weight.ndim == 2 and "embed" not in name and "lm_head" not in name


def _master(weight: nn.Parameter) -> nn.Parameter:
    master = nn.Parameter(weight.detach().float().clone())
    master.grad = torch.zeros_like(master)
    return master


def _gradient(master: nn.Parameter) -> torch.Tensor:
    assert master.grad is not None
    return master.grad
