"""OP2SD's control: a solution unrelated to the problem."""

from __future__ import annotations

import random
from collections.abc import Sequence

from rosd_kit.components.demonstrations.siblings import Shown
from rosd_kit.types import Group, Rollout, View


class OtherProblem(Shown):
    """Shows the reference solution of another problem of the same step, as a control.

    If this works as well as the right solution, the content of the privileged text does not matter.
    """

    name = "other_problem"
    sees_batch = True
    needs = frozenset({"solution"})
    provides = frozenset({"demonstration"})

    def views(self, group: Group, rollout: Rollout, batch: Sequence[Group], rng: random.Random) -> tuple[View, ...]:
        others = [other.problem for other in batch if other.problem.id != group.problem.id and other.problem.solution]
        if not others:
            return ()
        chosen = rng.choice(others)
        view = self.view(chosen.solution or "", chosen, f"problem {chosen.id}")
        return (view,) if view else ()
