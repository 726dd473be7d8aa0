"""Demonstrates with the first successful sibling."""

from __future__ import annotations

import random
from collections.abc import Sequence

from rosd_kit.components.demonstrations.siblings import Siblings, first_view
from rosd_kit.types import Group, Rollout, View


class FirstSuccess(Siblings):
    """Shows the first successful sibling, as the code of ROSD's authors does."""

    name = "first_success"
    needs = frozenset({"group"})
    provides = frozenset({"demonstration"})

    def views(self, group: Group, rollout: Rollout, batch: Sequence[Group], rng: random.Random) -> tuple[View, ...]:
        return first_view(self.successes(group, rollout))
