"""Keeps sums of `p log p` finite. Does not know the divergences that use it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


#: Stands for log 0. Its exp is exactly 0, so 0 * log 0 = 0 without a mask, and no real log-prob is this small.
LOG_ZERO = -1e9


def floored(logp: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Return log-probs in at least float32 with -inf replaced by `LOG_ZERO`; entries at the floor get no gradient."""
    return logp.to(torch.promote_types(logp.dtype, torch.float32)).clamp_min(LOG_ZERO)
