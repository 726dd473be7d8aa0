"""Keeps groups whose rewards differ: those from which a policy gradient can learn."""

from __future__ import annotations

from pydantic import Field

from rosd_kit.contracts import Gate
from rosd_kit.types import GateDecision, Group, Passed


class MixedRewards(Gate):
    """Passes all rollouts of groups whose rewards differ, graded ones too (dynamic sampling of DAPO, arXiv 2503.14476)."""

    name = "mixed_rewards"

    class Config(Gate.Config):
        """Which rewards differ."""

        min_spread: float = Field(default=1e-6, gt=0.0, le=1.0)
        """Smallest difference between a group's highest and lowest reward."""

    def decide(self, group: Group) -> GateDecision:
        rewards = [rollout.verdict.score for rollout in group.rollouts]
        if max(rewards) - min(rewards) >= self.config.min_spread:
            return GateDecision(outcome="mixed", passed=tuple(Passed(index=r.index) for r in group.rollouts))
        if all(rollout.verdict.success for rollout in group.rollouts):
            return GateDecision(outcome="all_right")
        if not any(rollout.verdict.success for rollout in group.rollouts):
            return GateDecision(outcome="all_wrong")
        return GateDecision(outcome="equal_rewards")
