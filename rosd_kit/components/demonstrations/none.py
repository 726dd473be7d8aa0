"""The demonstration for recipes without privileged text."""

from __future__ import annotations

import random
from collections.abc import Sequence

from rosd_kit.contracts import Demonstration
from rosd_kit.types import Group, Rollout, View


class NoDemonstration(Demonstration):
    """Shows no privileged text."""

    name = "none"

    def views(self, group: Group, rollout: Rollout, batch: Sequence[Group], rng: random.Random) -> tuple[View, ...]:
        return ()
