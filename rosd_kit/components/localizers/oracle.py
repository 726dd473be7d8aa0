"""The localizer that knows: procedural tasks tell where a response first goes wrong."""

from __future__ import annotations

from typing import Literal

from rosd_kit.components.localizers.weights import everywhere, from_character
from rosd_kit.contracts import Localizer
from rosd_kit.types import Case, TokenWeights


class OracleLocalizer(Localizer):
    """Weights the tokens from the true first error to the end; the upper bound of localisation."""

    name = "oracle"
    needs = frozenset({"oracle"})

    class Config(Localizer.Config):
        """Where the weights begin."""

        boundary: Literal["quote", "sentence"] = "quote"
        """`quote`: the wrong claim; `sentence`: the sentence that holds it."""

    def locate(self, case: Case) -> TokenWeights:
        completion, truth = case.rollout.completion, case.truth
        if case.rollout.verdict.success or truth is None or truth.start < 0:
            return everywhere(completion, "right" if case.rollout.verdict.success else "missing")
        start = truth.start if self.config.boundary == "quote" else truth.sentence_start
        return from_character(completion, start, "exact")
