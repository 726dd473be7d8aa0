"""Keeps chosen vocabulary entries and folds the rest away. Knows nothing of who chose them."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from rosd_kit.components.divergences.numerics import LOG_ZERO

#: Below this many entries for each wanted one, a search in two steps is no faster.
_WORTH_IT = 256


def top_indices(logp: Float[Tensor, "tokens vocab"], k: int) -> Int[Tensor, "tokens k"]:
    """Return the places of the k largest entries of each row, in no particular order and without gradient.

    In a large vocabulary the search has two steps: the k groups of entries with the largest maxima hold the k largest
    entries, so only these groups are sorted. The result is exact; among equal entries either may be taken.
    """
    logp, vocabulary = logp.detach(), logp.shape[-1]
    if vocabulary < _WORTH_IT * k:
        return logp.topk(k, dim=-1, sorted=False).indices
    members = int((vocabulary / k) ** 0.5)
    groups = vocabulary // members
    maxima = logp[:, : groups * members].reshape(-1, members, groups).amax(1)
    best = maxima.topk(k, dim=-1, sorted=False).indices
    inside = (best[:, None, :] + groups * torch.arange(members, device=logp.device)[:, None]).flatten(1)
    left_over = torch.arange(groups * members, vocabulary, device=logp.device).expand(len(logp), -1)
    candidates = torch.cat([inside, left_over], dim=-1)
    return candidates.gather(-1, logp.gather(-1, candidates).topk(k, dim=-1, sorted=False).indices)


def bucketed(
    logp: Float[Tensor, "tokens vocab"], indices: Int[Tensor, "tokens k"], *, tail: bool
) -> Float[Tensor, "tokens buckets"]:
    """Return log-probs on the chosen entries plus one bucket for all others, or renormalised without it.

    The tail is summed over the other entries themselves. The shorter log(1 - sum of the chosen) loses every digit of
    the tail and of its gradient in float32 when the chosen entries hold nearly all the mass, which is the usual case.
    """
    if tail:
        found: Tensor = _WithTail.apply(logp, indices)  # type: ignore[no-untyped-call]
        return found
    return logp.gather(-1, indices).log_softmax(-1)


class _WithTail(torch.autograd.Function):
    """Chosen entries and the log of the others' mass, with one tensor over the vocabulary instead of autograd's five."""

    @staticmethod
    def forward(ctx: Any, logp: Tensor, indices: Tensor) -> Tensor:
        others = logp.scatter(-1, indices, LOG_ZERO)
        top = others.amax(-1, keepdim=True).clamp_min(LOG_ZERO)
        others.sub_(top).exp_()
        mass = others.sum(-1, keepdim=True)
        ctx.save_for_backward(others, mass, indices)
        return torch.cat([logp.gather(-1, indices), top + mass.log()], dim=-1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (gradient,) = gradients
        others, mass, indices = ctx.saved_tensors
        return (others * (gradient[:, -1:] / mass)).scatter_(-1, indices, gradient[:, :-1]), None
