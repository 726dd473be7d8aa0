"""The demonstration `example`: the privileged text that a rollout is compared with."""

from __future__ import annotations

import random
from collections.abc import Sequence

from pydantic import Field

import rosd_kit as rk

#: The version of the plugin API that this was written for.
rosd_kit_api = 2


class Example(rk.Demonstration):
    """Shows several siblings that succeeded, drawn by chance."""

    name = "example"
    needs = frozenset({"group"})
    provides = frozenset({"demonstration"})

    class Config(rk.Config):
        """How many."""

        most: int = Field(default=2, ge=1)
        """Most siblings to show."""

    def views(self, group: rk.Group, rollout: rk.Rollout, batch: Sequence[rk.Group], rng: random.Random) -> tuple[rk.View, ...]:
        others = [r for r in group.rollouts if r.verdict.success and r.index != rollout.index and r.completion.text]
        chosen = rng.sample(others, min(self.config.most, len(others)))
        return tuple(rk.View(text=r.completion.text, source=f"sibling {r.index}") for r in chosen)


@rk.hookimpl
def rosd_kit_components() -> list[type[rk.Component]]:
    return [Example]
