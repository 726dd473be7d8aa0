"""The demonstration `example`: chooses the privileged text that the teacher reads for a rollout."""

from __future__ import annotations

import random
from collections.abc import Sequence

from pydantic import Field

import rosd_kit as rk

#: The version of the plugin API that this plugin is written for.
rosd_kit_api = 2


class Example(rk.Demonstration):
    """Shows several successful siblings, drawn at random."""

    name = "example"
    needs = frozenset({"group"})
    provides = frozenset({"demonstration"})

    class Config(rk.Config):
        """The number of siblings."""

        max_siblings: int = Field(default=2, ge=1)
        """Largest number of siblings to show."""

    def views(self, group: rk.Group, rollout: rk.Rollout, batch: Sequence[rk.Group], rng: random.Random) -> tuple[rk.View, ...]:
        siblings = [r for r in group.rollouts if r.verdict.success and r.index != rollout.index and r.completion.text]
        chosen = rng.sample(siblings, min(self.config.max_siblings, len(siblings)))
        return tuple(rk.View(text=r.completion.text, source=f"sibling {r.index}") for r in chosen)


@rk.hookimpl
def rosd_kit_components() -> list[type[rk.Component]]:
    return [Example]
