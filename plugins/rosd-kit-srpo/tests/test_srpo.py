"""The gate `right_or_wrong` and the localizer `sure_teacher`: the laws of their slots, routes, weights, and a short run."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from rosd_kit_srpo import RightOrWrong, SureTeacher

import rosd_kit as rk
from rosd_kit.testing import fake_case, fake_group, fake_sample, parametrize_with_checks

RECIPE = Path(__file__).parents[1] / "recipe.yaml"
REINFORCE, DISTIL = "policy_gradient", "distill"


@parametrize_with_checks([RightOrWrong(), SureTeacher(), SureTeacher(SureTeacher.Config(beta=0.0))])
def test_conformance(component, check):
    check(component)


@pytest.mark.parametrize(
    ("right", "outcome", "routes"),
    [
        ((True, False, False), "mixed", [REINFORCE, DISTIL, DISTIL]),
        ((True, True), "all_right", [REINFORCE, REINFORCE]),
        ((False, False), "all_wrong", [REINFORCE, REINFORCE]),
    ],
)
def test_only_wrong_rollouts_with_a_right_sibling_are_distilled(right, outcome, routes):
    decision = RightOrWrong().decide(fake_group(right=right))
    assert decision.outcome == outcome
    assert [(p.index, p.route, p.weight) for p in decision.passed] == [(i, route, 1.0) for i, route in enumerate(routes)]


def test_the_names_of_the_terms_are_options():
    gate = RightOrWrong(RightOrWrong.Config(reinforce="rlsd", distil="sft"))
    assert [p.route for p in gate.decide(fake_group(right=(True, False))).passed] == ["rlsd", "sft"]


def test_an_uncertain_teacher_counts_less():
    scores = rk.SampleScores(
        divergence=(1.0,) * 4,
        student=(-1.0,) * 4,
        teacher=(-1.0,) * 4,
        student_entropy=(9.0,) * 4,
        teacher_entropy=(0.0, math.log(2), math.log(4), 1.0),
    )
    sample = fake_sample(length=4, token_weights=(1.0, 1.0, 0.5, 0.0))
    assert SureTeacher().refine(sample, scores) == pytest.approx([1.0, 0.5, 0.125, 0.0])
    assert SureTeacher(SureTeacher.Config(beta=2.0)).refine(sample, scores) == pytest.approx([1.0, 0.25, 0.5 / 16, 0.0])
    assert SureTeacher(SureTeacher.Config(beta=0.0)).refine(sample, scores) == [1.0, 1.0, 0.5, 0.0]
    assert set(SureTeacher().locate(fake_case()).weights) == {1.0}


def test_a_short_run_feeds_both_terms(short_run):
    run = short_run(RECIPE)
    assert run.total("gate/mixed") > 0
    assert run.total("train/loss/distill") > 0
    assert all(step["train/weighted_tokens"] > 0 for step in run.steps)
    assert len(run.samples) == run.total("rollout/count")
