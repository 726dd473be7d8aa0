"""The laws of corrections: plain weights, one a token."""

from __future__ import annotations

import torch
from torch import Tensor

from rosd_kit.contracts import Correction
from rosd_kit.testing.check import Bench, check, demand, does_not_apply

_CURRENT = torch.tensor([-0.1, -2.0, -5.0, -0.5])


def _pairs() -> dict[str, tuple[Tensor, Tensor]]:
    return {
        "equal policies": (_CURRENT, _CURRENT),
        "policies a little apart": (_CURRENT + torch.tensor([0.3, -0.3, 0.0, 1.0]), _CURRENT),
        "tokens that were nearly impossible": (torch.full((4,), -300.0), _CURRENT),
        "tokens that became nearly impossible": (_CURRENT, torch.full((4,), -300.0)),
        "log-probs of 0": (torch.zeros(4), torch.zeros(4)),
        "one token": (_CURRENT[:1], _CURRENT[:1] - 0.2),
    }


@check("correction")
def check_one_weight_a_token(correction: Correction, bench: Bench) -> None:
    """`weigh` returns `[tokens]` finite weights >= 0, however far the policies are apart."""
    for name, (behaviour, current) in _pairs().items():
        found = correction.weigh(behaviour, current)
        demand(found.shape == current.shape, f"{name}: shape {tuple(found.shape)} for {tuple(current.shape)}")
        demand(torch.isfinite(found).all() and (found >= 0).all(), f"{name}: {found.tolist()}")


@check("correction")
def check_carries_no_gradient(correction: Correction, bench: Bench) -> None:
    """The weights are numbers: no gradient flows through them, whatever they are computed from."""
    for name, (behaviour, current) in _pairs().items():
        found = correction.weigh(behaviour, current.clone().requires_grad_())
        demand(not found.requires_grad, f"{name}: the weights carry a gradient; detach them")


@check("correction")
def check_equal_policies_weigh_one(correction: Correction, bench: Bench) -> None:
    """Where the policy that sampled is the one that is trained every weight is 1; weakened by `may_weigh_equals = True`."""
    if correction.may_weigh_equals:
        raise does_not_apply("it claims may_weigh_equals")
    found = correction.weigh(_CURRENT, _CURRENT.clone())
    demand(torch.allclose(found, torch.ones_like(found)), f"{found.tolist()} for equal policies")


@check("correction")
def check_tokens_are_independent(correction: Correction, bench: Bench) -> None:
    """A token's weight does not depend on its neighbours: tokens are cut into chunks that fit the memory."""
    for name, (behaviour, current) in _pairs().items():
        together = correction.weigh(behaviour, current)
        alone = torch.cat([correction.weigh(b[None], c[None]) for b, c in zip(behaviour, current, strict=True)])
        demand(torch.allclose(together, alone), f"{name}: {together.tolist()} together, {alone.tolist()} alone")
