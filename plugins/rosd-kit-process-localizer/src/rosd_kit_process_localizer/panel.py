"""The tutor, asked several times. Knows nothing of what is done with the answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from pydantic import NonNegativeFloat, PositiveInt

import rosd_kit as rk
from rosd_kit_process_localizer.vote import elect


class Panel(rk.Tutor):
    """Asks the model several times for the first error of a wrong rollout, and speaks for the majority.

    Source: self-consistency (arXiv 2203.11171), applied to ROSD's reflection (arXiv 2605.28014).
    """

    name = "panel"

    class Config(rk.Tutor.Config):
        """The tutor's options, and how often it is asked."""

        votes: PositiveInt = 5
        """Reflections on each wrong rollout; right ones are reflected on once."""
        temperature: NonNegativeFloat = 1.0
        """With 0 all votes would be the same."""

    def reflect(self, cases: Sequence[rk.Case], generate: rk.Generate) -> list[rk.Reflection]:
        """Return for each case a reflection of the majority's, with all that were made as its alternatives."""
        repeated = [case for case in cases for _ in range(self._votes(case))]
        found = iter(super().reflect(repeated, generate))
        return [_spoken(case, tuple(next(found) for _ in range(self._votes(case)))) for case in cases]

    def _votes(self, case: rk.Case) -> int:
        return 1 if case.rollout.verdict.success or not self.asks(case) else int(self.config.votes)


def _spoken(case: rk.Case, said: tuple[rk.Reflection, ...]) -> rk.Reflection:
    """Return the first complete reflection of the majority, else the first complete one, else the first."""
    if len(said) == 1:
        return said[0]
    elected = elect(case.rollout.completion.text, said)
    places = elected.places if elected.start is not None else ()
    of_the_majority = [one for one, place in zip(said, places, strict=False) if place == elected.start]
    chosen = next((one for one in (*of_the_majority, *said) if one.status == "ok"), said[0])
    return replace(chosen, alternatives=said)
