"""The laws of gates: they pass rollouts of the group, with valid weights, routes and outcomes."""

from __future__ import annotations

import math
import re

from rosd_kit.contracts import Gate
from rosd_kit.testing.check import Bench, check, require
from rosd_kit.testing.examples import groups

_WORD = re.compile(r"[a-z][a-z0-9_]*")


@check("gate")
def check_passes_rollouts_of_the_group(gate: Gate, bench: Bench) -> None:
    """Each passed index is the `index` of a rollout in the group, which may differ from its position, and occurs once."""
    for name, group in groups(bench).items():
        passed = [p.index for p in gate.decide(group).passed]
        require(len(passed) == len(set(passed)), f"{name}: an index is passed twice: {passed}")
        unknown = set(passed) - {rollout.index for rollout in group.rollouts}
        require(
            not unknown,
            f"{name}: no rollout has the index {sorted(unknown)}; the group has {[r.index for r in group.rollouts]}",
        )


@check("gate")
def check_weights_and_routes_are_valid(gate: Gate, bench: Bench) -> None:
    """Each passed rollout has a finite weight >= 0 and a route: the name of an objective, or "*"."""
    for name, group in groups(bench).items():
        for p in gate.decide(group).passed:
            require(math.isfinite(p.weight) and p.weight >= 0, f"{name}: rollout {p.index} has the weight {p.weight}")
            require(p.route == "*" or _WORD.fullmatch(p.route), f"{name}: rollout {p.index} is routed to {p.route!r}")


@check("gate")
def check_outcome_is_a_word(gate: Gate, bench: Bench) -> None:
    """The outcome is one lower-case word: it becomes the metric gate/<outcome>."""
    for name, group in groups(bench).items():
        outcome = gate.decide(group).outcome
        require(isinstance(outcome, str) and _WORD.fullmatch(outcome), f"{name}: the outcome is {outcome!r}")
