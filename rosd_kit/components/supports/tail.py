"""The tail bucket of a top-k support, as one autograd function."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from rosd_kit.components.divergences.numerics import LOG_ZERO
from rosd_kit.model.tensors import AutogradContext


class WithTail(torch.autograd.Function):
    """Appends the log mass of all other entries; keeps one tensor over the vocabulary where autograd keeps five."""

    @staticmethod
    def forward(ctx: AutogradContext, logp: Tensor, indices: Tensor) -> Tensor:
        others = logp.scatter(-1, indices, LOG_ZERO)
        top = others.amax(-1, keepdim=True).clamp_min(LOG_ZERO)
        others.sub_(top).exp_()
        mass = others.sum(-1, keepdim=True)
        ctx.save_for_backward(others, mass, indices)
        return torch.cat([logp.gather(-1, indices), top + mass.log()], dim=-1)

    @staticmethod
    @once_differentiable
    def backward(ctx: AutogradContext, *gradients: Tensor) -> tuple[Tensor, None]:
        (gradient,) = gradients
        others, mass, indices = ctx.saved_tensors
        return (others * (gradient[:, -1:] / mass)).scatter_(-1, indices, gradient[:, :-1]), None
