"""The gate `example`: selects the rollouts of a group to train on."""

from __future__ import annotations

from pydantic import Field

import rosd_kit as rk

#: The version of the plugin API that this plugin is written for.
rosd_kit_api = 2


class Example(rk.Gate):
    """Passes the failures of groups with some successes, and nothing of unsolved or already mastered problems."""

    name = "example"

    class Config(rk.Config):
        """The groups to pass."""

        max_success_rate: float = Field(default=0.9, gt=0.0, lt=1.0)
        """Largest share of successes in a group that is passed."""

    def decide(self, group: rk.Group) -> rk.GateDecision:
        success_rate = sum(rollout.verdict.success for rollout in group.rollouts) / len(group.rollouts)
        if success_rate == 0:
            return rk.GateDecision(outcome="unsolved")
        if success_rate > self.config.max_success_rate:
            return rk.GateDecision(outcome="mastered")
        failures = [rollout for rollout in group.rollouts if not rollout.verdict.success]
        return rk.GateDecision(outcome="mixed", passed=tuple(rk.Passed(index=r.index) for r in failures))


@rk.hookimpl
def rosd_kit_components() -> list[type[rk.Component]]:
    return [Example]
