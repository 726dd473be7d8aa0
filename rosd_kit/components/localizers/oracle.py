"""The oracle localizer: uses the true first error, which procedural tasks know."""

from __future__ import annotations

from typing import Literal

from rosd_kit.components.localizers.weights import everywhere, from_character
from rosd_kit.contracts import Localizer
from rosd_kit.types import Case, TokenWeights


class OracleLocalizer(Localizer):
    """Weights the tokens from the true first error to the end: the upper bound for localizers."""

    name = "oracle"
    needs = frozenset({"oracle"})

    class Config(Localizer.Config):
        """Options of `oracle`."""

        boundary: Literal["quote", "sentence"] = "quote"
        """Where the weights start. `quote`: at the wrong claim; `sentence`: at the start of its sentence."""

    def locate(self, case: Case) -> TokenWeights:
        completion, truth = case.rollout.completion, case.truth
        if case.rollout.verdict.success or truth is None or truth.start < 0:
            return everywhere(completion, "right" if case.rollout.verdict.success else "missing")
        start = truth.start if self.config.boundary == "quote" else truth.sentence_start
        return from_character(completion, start, "exact")
