"""Soft localisation: each token is weighted by the probability that the first error is there or before it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import Field, NonNegativeInt, PositiveFloat

from rosd_kit.components.localizers.weights import everywhere, from_character
from rosd_kit.contracts import Localizer
from rosd_kit.text.quotes import QuoteMatch, find_quote
from rosd_kit.types import Case, Completion, Reflection, TokenWeights


@dataclass(frozen=True, kw_only=True)
class _Vote:
    """One reflection's error, as half-open tokens, and the probability that it has."""

    start: int
    end: int
    start_char: int
    mass: float
    outcome: str


class SoftError(Localizer):
    """Weights tokens by the probability that the first error is at or before them; right rollouts get weight everywhere.

    Each reflection of a rollout (`alternatives` of those that were sampled, or the only one) has an equal share of the
    probability, and puts as much of it on its quote as the quote matches the response. What no quote is trusted with is treated
    by `missing`. With one verbatim quote and the defaults of `rise` and `half_life`, this is `error_quote`.
    """

    name = "soft_error"
    needs = frozenset({"quote"})

    class Config(Localizer.Config):
        """Options of `soft_error`."""

        normalised: float = Field(default=1.0, ge=0.0, le=1.0)
        """Trust in a quote that is found only after normalising spacing, case and markup; a verbatim one has trust 1."""
        fuzzy: float = Field(default=0.5, ge=0.0, le=1.0)
        """Trust in a quote that differs from the response in spelling."""
        min_ratio: float = Field(default=80.0, ge=0.0)
        """Minimum similarity of a fuzzy match, 0 to 100; above 100 turns fuzzy matching off."""
        missing: Literal["skip", "full"] = "full"
        """Where probability goes that no quote is trusted with. `full`: the error may be anywhere, so it weights every token;
        `skip`: nowhere."""
        rise: NonNegativeInt = 0
        """Number of tokens before a quote over which the weight rises to it in equal steps: models often quote too late."""
        half_life: PositiveFloat | None = None
        """Number of tokens after the end of a quote in which its weight halves, down to `floor`; null: it does not fall."""
        floor: float = Field(default=0.0, ge=0.0, le=1.0)
        """Share of a quote's weight that remains far behind it."""

    def locate(self, case: Case) -> TokenWeights:
        completion = case.rollout.completion
        if case.rollout.verdict.success:
            return everywhere(completion, "right")
        reflections = (case.reflection.alternatives or (case.reflection,)) if case.reflection is not None else ()
        votes = self._votes(completion, reflections)
        unplaced = 1.0 - sum(vote.mass for vote in votes) if self.config.missing == "full" else 0.0
        weights = tuple(
            min(1.0, max(0.0, unplaced) + sum(vote.mass * self._shape(token, vote) for vote in votes))
            for token in range(len(completion.token_ids))
        )
        if not votes:
            return TokenWeights(weights=weights, outcome="missing")
        places = {vote.start_char: sum(other.mass for other in votes if other.start_char == vote.start_char) for vote in votes}
        likeliest = min(places, key=lambda place: (-places[place], place))
        outcome = next(vote.outcome for vote in votes if vote.start_char == likeliest)
        return TokenWeights(
            weights=weights, outcome=outcome if len(places) == 1 else f"{outcome}_disputed", start_char=likeliest
        )

    def _votes(self, completion: Completion, reflections: Sequence[Reflection]) -> list[_Vote]:
        votes = []
        for reflection in reflections:
            match = self._match(completion.text, reflection)
            trust = {"exact": 1.0, "normalised": self.config.normalised, "fuzzy": self.config.fuzzy, "missing": 0.0}
            if mass := trust[match.outcome] / len(reflections):
                start = from_character(completion, match.start, "").weights.index(1.0) if completion.token_ids else 0
                inside = [t for t, (a, b) in enumerate(completion.token_spans) if a < b and a < match.end]
                end = max(start + 1, inside[-1] + 1 if inside else 0)
                votes.append(_Vote(start=start, end=end, start_char=match.start, mass=mass, outcome=match.outcome))
        return votes

    def _match(self, text: str, reflection: Reflection) -> QuoteMatch:
        if reflection.quote_start is not None:
            start = reflection.quote_start
            return QuoteMatch(start=start, end=start + len(reflection.quote or ""), outcome="exact")
        return find_quote(text, reflection.quote or "", hint=reflection.idea or "", min_ratio=self.config.min_ratio)

    def _shape(self, token: int, vote: _Vote) -> float:
        """Return the share of a vote's weight at a token: rising before its quote, 1 in it, falling after it."""
        if token < vote.start:
            rise: int = self.config.rise
            return max(0.0, 1.0 - (vote.start - token) / (rise + 1))
        if token < vote.end or self.config.half_life is None:
            return 1.0
        fallen: float = 0.5 ** ((token - vote.end + 1) / self.config.half_life)
        floor: float = self.config.floor
        return floor + (1.0 - floor) * fallen
