"""SDFT's mask: no signal from the first tokens of a response."""

from __future__ import annotations

from pydantic import NonNegativeInt

from rosd_kit.contracts import Localizer
from rosd_kit.types import Case, TokenWeights


class SkipFirst(Localizer):
    """Weights everything but the first `n` tokens."""

    name = "skip_first"
    locates = False

    class Config(Localizer.Config):
        """Options of `skip_first`."""

        n: NonNegativeInt = 3
        """Number of tokens at the start of the response that get weight 0."""

    def locate(self, case: Case) -> TokenWeights:
        length = len(case.rollout.completion.token_ids)
        return TokenWeights(weights=tuple(float(t >= self.config.n) for t in range(length)), outcome="full")
