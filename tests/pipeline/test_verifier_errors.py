"""A verifier that fails says nothing about an answer: such rollouts are counted and take no further part."""

from __future__ import annotations

from dataclasses import replace

import pytest

from rosd_kit.components.verifiers import MicroVerifier
from rosd_kit.types import Verdict
from tests.pipeline.test_pipeline import PROBLEM, RIGHT, TOLD, VALID, WRONG

BROKEN = "Answer : 77 ."


class Failing(MicroVerifier):
    """Fails on one text."""

    name = "failing"

    def verify(self, problem, text):
        return Verdict(score=0.0, success=False, status="error") if BROKEN in text else super().verify(problem, text)


def stepped(make_pipeline, texts, reflections, recipe="rosd"):
    pipeline = make_pipeline(recipe, f"group_size={len(texts)}", says=[texts, reflections])
    return replace(pipeline, components=replace(pipeline.components, verifier=Failing())).step([PROBLEM], 0)


def test_it_is_left_out_of_the_groups_training(make_pipeline):
    batch = stepped(make_pipeline, [WRONG, BROKEN, RIGHT], [TOLD, VALID])
    assert [sample.success for sample in batch.samples] == [False, True]
    assert batch.metrics["skip/verifier_error"] == 1 and batch.metrics["verify/error"] == 1


@pytest.mark.parametrize(("rest", "outcome"), [(RIGHT, "all_right"), (WRONG, "all_wrong")])
def test_it_does_not_make_a_group_mixed(make_pipeline, rest, outcome):
    batch = stepped(make_pipeline, [rest, BROKEN, rest], [])
    assert batch.samples == () and batch.metrics[f"gate/{outcome}"] == 1


def test_it_has_no_part_in_the_groups_rewards(make_pipeline):
    batch = stepped(make_pipeline, [WRONG, BROKEN, RIGHT], [], "grpo")
    assert {sample.group_rewards for sample in batch.samples} == {(0.0, 1.0)}


def test_it_is_neither_a_success_nor_a_failure(make_pipeline):
    assert stepped(make_pipeline, [WRONG, BROKEN, RIGHT], [TOLD, VALID]).metrics["rollout/success"] == 0.5


def test_a_group_of_errors_is_no_group(make_pipeline):
    batch = stepped(make_pipeline, [BROKEN, BROKEN], [])
    assert batch.samples == () and batch.metrics["skip/verifier_error"] == 2
    assert not any(name.startswith("gate/") for name in batch.metrics)
