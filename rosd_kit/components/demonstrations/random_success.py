"""Demonstrates with a random successful sibling."""

from __future__ import annotations

import random
from collections.abc import Sequence

from rosd_kit.components.demonstrations.siblings import as_views, successes
from rosd_kit.contracts import Demonstration
from rosd_kit.types import Group, Rollout, View


class RandomSuccess(Demonstration):
    """Shows a random successful sibling, drawn with the run's seed."""

    name = "random_success"
    needs = frozenset({"group"})
    provides = frozenset({"demonstration"})

    def views(self, group: Group, rollout: Rollout, batch: Sequence[Group], rng: random.Random) -> tuple[View, ...]:
        siblings = successes(group, rollout)
        return as_views([rng.choice(siblings)] if siblings else [])
