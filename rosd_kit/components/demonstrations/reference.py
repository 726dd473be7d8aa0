"""Demonstrates with the solution in the data."""

from __future__ import annotations

import random
from collections.abc import Sequence

from rosd_kit.components.demonstrations.siblings import Shown
from rosd_kit.types import Group, Rollout, View


class Reference(Shown):
    """Shows the problem's reference solution (OPSD)."""

    name = "reference"
    needs = frozenset({"solution"})
    provides = frozenset({"demonstration"})

    def views(self, group: Group, rollout: Rollout, batch: Sequence[Group], rng: random.Random) -> tuple[View, ...]:
        view = self.view(group.problem.solution or "", group.problem, "reference")
        return (view,) if view else ()
