"""The gate `example`: which rollouts of a group go on."""

from __future__ import annotations

from pydantic import Field

import rosd_kit as rk

#: The version of the plugin API that this was written for.
rosd_kit_api = 2


class Example(rk.Gate):
    """Passes the failures of groups that succeed sometimes: neither hopeless problems nor those already mastered."""

    name = "example"

    class Config(rk.Config):
        """Which groups are worth the effort."""

        most: float = Field(default=0.9, gt=0.0, lt=1.0)
        """Largest share of successes in the group."""

    def decide(self, group: rk.Group) -> rk.GateDecision:
        share = sum(rollout.verdict.success for rollout in group.rollouts) / len(group.rollouts)
        if share == 0:
            return rk.GateDecision(outcome="hopeless")
        if share > self.config.most:
            return rk.GateDecision(outcome="mastered")
        failures = [rollout for rollout in group.rollouts if not rollout.verdict.success]
        return rk.GateDecision(outcome="mixed", passed=tuple(rk.Passed(index=r.index) for r in failures))


@rk.hookimpl
def rosd_kit_components() -> list[type[rk.Component]]:
    return [Example]
