"""Demonstrates with a random successful sibling."""

from __future__ import annotations

import random
from collections.abc import Sequence

from rosd_kit.components.demonstrations.siblings import Siblings, first_view
from rosd_kit.types import Group, Rollout, View


class RandomSuccess(Siblings):
    """Shows a random successful sibling, drawn with the run's seed."""

    name = "random_success"
    needs = frozenset({"group"})
    provides = frozenset({"demonstration"})

    def views(self, group: Group, rollout: Rollout, batch: Sequence[Group], rng: random.Random) -> tuple[View, ...]:
        siblings = self.successes(group, rollout)
        return first_view([rng.choice(siblings)] if siblings else [])
