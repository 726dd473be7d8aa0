"""Demonstrates with the first successful sibling."""

from __future__ import annotations

import random
from collections.abc import Sequence

from rosd_kit.components.demonstrations.siblings import as_views, successes
from rosd_kit.contracts import Demonstration
from rosd_kit.types import Group, Rollout, View


class FirstSuccess(Demonstration):
    """Shows the first successful sibling, as the code of ROSD's authors does."""

    name = "first_success"
    needs = frozenset({"group"})
    provides = frozenset({"demonstration"})

    def views(self, group: Group, rollout: Rollout, batch: Sequence[Group], rng: random.Random) -> tuple[View, ...]:
        return as_views(successes(group, rollout)[:1])
