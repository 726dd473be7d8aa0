"""The gate that passes everything."""

from __future__ import annotations

from rosd_kit.components.gates.mixed_groups import MixedGroups
from rosd_kit.contracts import Gate
from rosd_kit.types import GateDecision, Group, Passed


class AllRollouts(Gate):
    """Passes every rollout; still records whether its group was mixed."""

    name = "all"

    def decide(self, group: Group) -> GateDecision:
        outcome = MixedGroups().decide(group).outcome
        return GateDecision(outcome=outcome, passed=tuple(Passed(index=r.index) for r in group.rollouts))
