"""The laws of corrections: one finite weight per token, without gradient."""

from __future__ import annotations

import torch
from torch import Tensor

from rosd_kit.contracts import Correction
from rosd_kit.testing.check import Bench, check, does_not_apply, require

_CURRENT = torch.tensor([-0.1, -2.0, -5.0, -0.5])


def _pairs() -> dict[str, tuple[Tensor, Tensor]]:
    return {
        "equal policies": (_CURRENT, _CURRENT),
        "policies that differ a little": (_CURRENT + torch.tensor([0.3, -0.3, 0.0, 1.0]), _CURRENT),
        "tokens that were nearly impossible": (torch.full((4,), -300.0), _CURRENT),
        "tokens that have become nearly impossible": (_CURRENT, torch.full((4,), -300.0)),
        "logprobs of 0": (torch.zeros(4), torch.zeros(4)),
        "one token": (_CURRENT[:1], _CURRENT[:1] - 0.2),
    }


@check("correction")
def check_one_weight_per_token(correction: Correction, bench: Bench) -> None:
    """`weigh` returns `[tokens]` finite weights >= 0, however different the policies are."""
    for name, (behaviour, current) in _pairs().items():
        weights = correction.weigh(behaviour, current)
        require(weights.shape == current.shape, f"{name}: shape {tuple(weights.shape)} for {tuple(current.shape)}")
        require(torch.isfinite(weights).all() and (weights >= 0).all(), f"{name}: the weights are {weights.tolist()}")


@check("correction")
def check_carries_no_gradient(correction: Correction, bench: Bench) -> None:
    """No gradient flows through the weights, even if `current` requires one."""
    for name, (behaviour, current) in _pairs().items():
        weights = correction.weigh(behaviour, current.clone().requires_grad_())
        require(not weights.requires_grad, f"{name}: the weights carry a gradient; detach them")


@check("correction")
def check_weights_are_one_on_policy(correction: Correction, bench: Bench) -> None:
    """If the policy that sampled is the policy that trains, every weight is 1; waived by `may_weigh_equals = True`."""
    if correction.may_weigh_equals:
        raise does_not_apply("its class sets may_weigh_equals = True")
    weights = correction.weigh(_CURRENT, _CURRENT.clone())
    require(torch.allclose(weights, torch.ones_like(weights)), f"the weights are {weights.tolist()} for equal policies")


@check("correction")
def check_tokens_are_independent(correction: Correction, bench: Bench) -> None:
    """A token's weight does not depend on its neighbours: the engine splits tokens into chunks that fit in memory."""
    for name, (behaviour, current) in _pairs().items():
        together = correction.weigh(behaviour, current)
        alone = torch.cat([correction.weigh(b[None], c[None]) for b, c in zip(behaviour, current, strict=True)])
        require(torch.allclose(together, alone), f"{name}: {together.tolist()} together, {alone.tolist()} alone")
