"""Demonstrates with the solution in the data."""

from __future__ import annotations

import random
from collections.abc import Sequence

from rosd_kit.contracts import Demonstration
from rosd_kit.types import Group, Rollout, View


class Reference(Demonstration):
    """Shows the problem's reference solution (OPSD)."""

    name = "reference"
    needs = frozenset({"solution"})
    provides = frozenset({"demonstration"})

    def views(self, group: Group, rollout: Rollout, batch: Sequence[Group], rng: random.Random) -> tuple[View, ...]:
        solution = group.problem.solution
        return (View(text=solution, source="reference"),) if solution else ()
