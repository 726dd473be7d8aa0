"""Asks the tutor several times. It does not know how the reflections are used."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from pydantic import NonNegativeFloat, PositiveInt

import rosd_kit as rk
from rosd_kit_process_localizer.vote import elect


class Panel(rk.Tutor):
    """Asks the model several times for the first error of a wrong rollout and returns a reflection of the majority.

    Source: self-consistency (arXiv 2203.11171), applied to ROSD's reflection (arXiv 2605.28014).
    """

    name = "panel"

    class Config(rk.Tutor.Config):
        """The tutor's options, and the number of reflections."""

        votes: PositiveInt = 5
        """Reflections per wrong rollout; a right one gets one reflection."""
        temperature: NonNegativeFloat = 1.0
        """Sampling temperature; at 0 all votes would be the same."""

    def reflect(self, cases: Sequence[rk.Case], generate: rk.Generate) -> list[rk.Reflection]:
        """Return a reflection of the majority for each case, with all its reflections as `alternatives`."""
        repeated = [case for case in cases for _ in range(self._votes(case))]
        reflections = iter(super().reflect(repeated, generate))
        return [_choose(case, tuple(next(reflections) for _ in range(self._votes(case)))) for case in cases]

    def _votes(self, case: rk.Case) -> int:
        return 1 if case.rollout.verdict.success or not self.asks(case) else int(self.config.votes)


def _choose(case: rk.Case, reflections: tuple[rk.Reflection, ...]) -> rk.Reflection:
    """Return the first complete reflection of the majority, else the first complete one, else the first."""
    if len(reflections) == 1:
        return reflections[0]
    election = elect(case.rollout.completion.text, reflections)
    starts = election.starts if election.start is not None else ()
    majority = [reflection for reflection, start in zip(reflections, starts, strict=False) if start == election.start]
    candidates = (*majority, *reflections)
    chosen = next((reflection for reflection in candidates if reflection.status == "ok"), reflections[0])
    return replace(chosen, alternatives=reflections)
