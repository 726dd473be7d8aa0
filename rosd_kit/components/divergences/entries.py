"""The base of divergences that sum over vocabulary entries, with an optional clip per entry."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING

from pydantic import PositiveFloat

from rosd_kit.components.divergences.numerics import floored
from rosd_kit.contracts import Divergence

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


class EntrySum(Divergence):
    """Base of divergences that sum one contribution per vocabulary entry."""

    class Config(Divergence.Config):
        """The clip on entries."""

        entry_clip: PositiveFloat | None = None
        """Largest contribution of one entry, in nats; entries above it get no gradient. Only the positive side is
        clipped, so a clipped divergence may be negative. OPSD's later release uses 0.05."""

    def __init__(self, config: object = None) -> None:
        super().__init__(config)
        self.may_be_negative = self.config.entry_clip is not None

    @abstractmethod
    def entries(self, log_s: Float[Tensor, "tokens k"], log_t: Float[Tensor, "tokens k"]) -> Float[Tensor, "tokens k"]:
        """Return each entry's contribution, from finite log-probs."""

    def per_token(self, student: Float[Tensor, "tokens k"], teacher: Float[Tensor, "tokens k"]) -> Float[Tensor, " tokens"]:
        """Return the divergence in nats, `[tokens]`."""
        entries = self.entries(floored(student), floored(teacher.detach()))
        if self.config.entry_clip is not None:
            entries = entries.clamp_max(self.config.entry_clip)
        return entries.sum(-1)
