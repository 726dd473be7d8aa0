"""The gate `longest_wrong`: the laws of its slot, its decisions, and a short run without labels."""

from __future__ import annotations

from pathlib import Path

import pytest
from rosd_kit_u_opsd import LongestWrong

from rosd_kit.testing import fake_group, fake_rollout, parametrize_with_checks

RECIPE = Path(__file__).parents[1] / "recipe.yaml"


def gate(k: int = 1) -> LongestWrong:
    return LongestWrong(LongestWrong.Config(k=k))


@parametrize_with_checks([LongestWrong(), gate(3)])
def test_conformance(component, check):
    check(component)


@pytest.mark.parametrize(("k", "passed"), [(1, [3]), (2, [3, 1]), (3, [3, 1, 4]), (9, [3, 1, 4])])
def test_the_longest_wrong_rollouts_pass(k, passed):
    """Rollouts 1 and 4 are equally long; rollouts 0 and 2 are the majority, whatever their length."""
    group = fake_group(("a b c d e f g", True), ("a b c", False), ("a", True), ("a b c d", False), ("x y z", False))
    decision = gate(k).decide(group)
    assert ([p.index for p in decision.passed], decision.outcome) == (passed, "dissent")
    assert {(p.weight, p.route) for p in decision.passed} == {(1.0, "*")}


@pytest.mark.parametrize(("right", "outcome"), [((True, True), "unanimous"), ((False, False), "no_majority")])
def test_without_dissent_or_majority_nothing_passes(right, outcome):
    decision = gate().decide(fake_group(right=right))
    assert (decision.outcome, decision.passed) == (outcome, ())


def test_passed_indices_are_the_rollouts_indices():
    group = fake_group(fake_rollout("a", right=True, index=4), fake_rollout("b c", index=7))
    assert [p.index for p in gate().decide(group).passed] == [7]


def test_a_short_run_distils_one_rollout_per_group(short_run):
    run = short_run(RECIPE)
    assert len(run.samples) == run.total("gate/dissent") > 0
    assert {record["success"] for record in run.samples} == {False}
    assert all(len(record["views"]) == 1 for record in run.samples)
    assert run.total("train/loss/distill") > 0
