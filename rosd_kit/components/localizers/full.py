"""The localizer of methods without localisation."""

from __future__ import annotations

from rosd_kit.components.localizers.weights import everywhere
from rosd_kit.contracts import Localizer
from rosd_kit.types import Case, TokenWeights


class Full(Localizer):
    """Weights the whole response (OPSD, SDPO)."""

    name = "full"
    locates = False

    def locate(self, case: Case) -> TokenWeights:
        return everywhere(case.rollout.completion, "full")
