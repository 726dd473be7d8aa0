"""torch's Muon with the products of its orthogonalisation in float32 on a CPU, where most processors only emulate bfloat16.

There torch's own takes twelve times as long, a quarter of a whole step of a small model (`benchmarks/muon.py`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeAlias, cast, overload

import torch
from jaxtyping import Float
from torch import Tensor

#: A group of weights with its options, as torch keeps it.
Options: TypeAlias = dict[str, Any]


class Muon(torch.optim.Muon):
    """`torch.optim.Muon` with the same states; on a CPU and with the usual `adjust_lr_fn`, it orthogonalises in float32."""

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...
    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Update the weights that have gradients."""
        if not all(map(_is_ours, self.param_groups)):
            return cast("float | None", super().step(closure))  # type: ignore[no-untyped-call]
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    self._update(weight, weight.grad, group)
        return loss

    def _update(self, weight: Tensor, gradient: Tensor, group: Options) -> None:
        state, momentum = self.state[weight], group["momentum"]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(gradient, memory_format=torch.preserve_format)
        average = state["momentum_buffer"].lerp_(gradient, 1 - momentum)
        direction = gradient.lerp(average, momentum) if group["nesterov"] else average
        update = orthogonal(direction, group["ns_coefficients"], group["ns_steps"], group["eps"])
        rows, columns = weight.shape
        weight.mul_(1 - group["lr"] * group["weight_decay"])
        weight.add_(update.to(weight.dtype), alpha=-group["lr"] * math.sqrt(max(1.0, rows / columns)))


def _is_ours(group: Options) -> bool:
    return group["adjust_lr_fn"] in (None, "original") and all(weight.device.type == "cpu" for weight in group["params"])


def orthogonal(
    update: Float[Tensor, "rows columns"], coefficients: tuple[float, float, float], steps: int, eps: float
) -> Float[Tensor, "rows columns"]:
    """Return a float32 matrix near `update`'s orthogonal factor, by an iteration of Newton and Schulz with Muon's coefficients.

    Source: Jordan et al., "Muon: an optimizer for hidden layers in neural networks", 2024.
    """
    a, b, c = coefficients
    tall = update.shape[0] > update.shape[1]
    wide = update.float().T if tall else update.float()
    wide = wide / wide.norm().clamp(min=eps)
    for _ in range(steps):
        gram = wide @ wide.T
        wide = torch.addmm(wide, torch.addmm(gram, gram, gram, beta=b, alpha=c), wide, beta=a)
    return wide.T if tall else wide
