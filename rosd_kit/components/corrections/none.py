"""No importance weights. Does not know how stale the rollouts are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from rosd_kit.contracts import Correction

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


class NoCorrection(Correction):
    """Gives every token weight 1."""

    name = "none"

    def weigh(self, behaviour: Float[Tensor, " tokens"], current: Float[Tensor, " tokens"]) -> Float[Tensor, " tokens"]:
        """Return ones."""
        return torch.ones_like(current)
