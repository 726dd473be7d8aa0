"""Demonstrates with the shortest successful sibling."""

from __future__ import annotations

import random
from collections.abc import Sequence

from rosd_kit.components.demonstrations.siblings import Siblings, first_view
from rosd_kit.types import Group, Rollout, View


class ShortestSuccess(Siblings):
    """Shows the successful sibling with the fewest tokens, the first if several tie (ROSD, arXiv 2605.28014, v1)."""

    name = "shortest_success"
    needs = frozenset({"group"})
    provides = frozenset({"demonstration"})

    def views(self, group: Group, rollout: Rollout, batch: Sequence[Group], rng: random.Random) -> tuple[View, ...]:
        return first_view(sorted(self.successes(group, rollout), key=lambda pair: len(pair[0].completion.token_ids)))
