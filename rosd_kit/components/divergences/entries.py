"""Divergences that are a sum over vocabulary entries, and the clip on each entry."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

from jaxtyping import Float
from pydantic import PositiveFloat
from torch import Tensor

from rosd_kit.components.divergences.numerics import floored
from rosd_kit.contracts import Divergence


class EntrySum(Divergence):
    """A divergence that adds up what each entry contributes."""

    class Config(Divergence.Config):
        """The clip, which all sums over entries share."""

        entry_clip: PositiveFloat | None = None
        """The most that one entry may contribute, in nats; no gradient comes from an entry above it. Only the positive
        side is cut, so a clipped divergence may be negative (OPSD's later release clips at 0.05)."""

    def __init__(self, config: Any = None) -> None:
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
