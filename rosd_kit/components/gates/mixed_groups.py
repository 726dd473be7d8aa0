"""ROSD's gate: keeps only groups with both a success and a failure."""

from __future__ import annotations

from rosd_kit.contracts import Gate
from rosd_kit.types import GateDecision, Group, Passed


class MixedGroups(Gate):
    """Passes all rollouts of groups with at least one success and one failure (ROSD, arXiv 2605.28014)."""

    name = "mixed_groups"

    def decide(self, group: Group) -> GateDecision:
        successes = sum(rollout.verdict.success for rollout in group.rollouts)
        if successes == 0:
            return GateDecision(outcome="all_wrong")
        if successes == len(group.rollouts):
            return GateDecision(outcome="all_right")
        return GateDecision(outcome="mixed", passed=tuple(Passed(index=r.index) for r in group.rollouts))
