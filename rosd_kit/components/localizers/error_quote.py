"""ROSD's localizer: distils from the quoted first error onward (arXiv 2605.28014, equation for m_t)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from rosd_kit.components.localizers.weights import everywhere, from_character, nowhere
from rosd_kit.contracts import Localizer
from rosd_kit.text.quotes import QuoteMatch, find_quote
from rosd_kit.text.sentences import sentence_start
from rosd_kit.types import Case, TokenWeights


class ErrorQuote(Localizer):
    """Weights the tokens from the reflector's quote to the end; right rollouts get weight everywhere."""

    name = "error_quote"
    needs = frozenset({"quote"})

    class Config(Localizer.Config):
        """Options of `error_quote`."""

        boundary: Literal["quote", "sentence"] = "quote"
        """Where the weights start. `quote`: at the first quoted token (v1); `sentence`: at the start of its sentence (v2)."""
        missing: Literal["skip", "full", "sentence"] = "full"
        """Without a usable quote: `skip` the rollout, weight the `full` response (v1), or weight its last `sentence`."""
        match: Literal["lenient", "exact"] = "lenient"
        """How a quote may differ from the response. `lenient`: in case, spacing, markup, left-out parts and, by `min_ratio`, in
        spelling; `exact`: not at all (the authors' code). Verbatim quotes are found alike by both."""
        min_ratio: float = Field(default=80.0, ge=0.0)
        """Minimum similarity of a fuzzy match, 0 to 100; above 100 turns fuzzy matching off. Unused with `match: exact`."""

    def locate(self, case: Case) -> TokenWeights:
        completion = case.rollout.completion
        if case.rollout.verdict.success:
            return everywhere(completion, "right")
        match = self._find_quote(case)
        if match is None:
            return self._weigh_without_quote(case)
        start = match.start
        if self.config.boundary == "sentence" and start < len(completion.text):
            start = sentence_start(completion.text, start)
        outcome = f"{match.outcome}_ambiguous" if match.occurrences > 1 else match.outcome
        return from_character(completion, start, outcome)

    def _find_quote(self, case: Case) -> QuoteMatch | None:
        reflection, text = case.reflection, case.rollout.completion.text
        if reflection is None:
            return None
        if reflection.quote_start is not None:
            return QuoteMatch(start=reflection.quote_start, end=reflection.quote_start, outcome="exact")
        hint, ratio, exact = reflection.idea or "", self.config.min_ratio, self.config.match == "exact"
        match = find_quote(text, reflection.quote or "", hint=hint, min_ratio=ratio, exact=exact)
        return match if match.outcome != "missing" else None

    def _weigh_without_quote(self, case: Case) -> TokenWeights:
        completion = case.rollout.completion
        if self.config.missing == "skip":
            return nowhere(completion, "missing")
        if self.config.missing == "full":
            return everywhere(completion, "missing")
        start = sentence_start(completion.text, max(0, len(completion.text.rstrip()) - 1))
        return from_character(completion, start, "missing")
