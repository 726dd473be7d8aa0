"""Chooses the rollouts that learn from the majority: the verifier's successes. It does not know how votes are counted."""

from __future__ import annotations

from pydantic import PositiveInt

import rosd_kit as rk

rosd_kit_api = 2


class LongestWrong(rk.Gate):
    """Passes the longest rollouts of a group that disagree with its majority; none if there is no majority or no dissent.

    With the verifier `majority` and the demonstration `shortest_success` this is U-OPSD (arXiv 2608.06296): the shortest
    rollout of the majority teaches the longest one that disagrees. With a verifier that uses true answers it is the rule of
    SSOPD (arXiv 2605.17497).
    """

    name = "longest_wrong"
    needs = frozenset({"group"})

    class Config(rk.Gate.Config):
        """The number of rollouts."""

        k: PositiveInt = 1
        """Number of the longest rollouts to pass per group; the earlier one wins a tie."""

    def decide(self, group: rk.Group) -> rk.GateDecision:
        """Return the longest wrong rollouts."""
        wrong = [rollout for rollout in group.rollouts if not rollout.verdict.success]
        if len(wrong) == len(group.rollouts):
            return rk.GateDecision(outcome="no_majority")
        if not wrong:
            return rk.GateDecision(outcome="unanimous")
        longest = sorted(wrong, key=lambda rollout: (-len(rollout.completion.token_ids), rollout.index))[: self.config.k]
        return rk.GateDecision(outcome="dissent", passed=tuple(rk.Passed(index=r.index) for r in longest))


@rk.hookimpl
def rosd_kit_components() -> list[type[rk.Component]]:
    """Return the components of this package."""
    return [LongestWrong]
