"""Rollouts at the edge of what there can be: of one token, all alike, with log-probs that are none."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.pipeline.conftest import Scripted
from tests.pipeline.test_pipeline import PROBLEM, RIGHT, TOLD, VALID, WRONG


class Spoiling(Scripted):
    """Spoils the log-probs of the first rollout."""

    def __init__(self, tokenizer, spoil, *calls) -> None:
        super().__init__(tokenizer, *calls)
        self.spoil = spoil

    def generate(self, requests, *, weights="live"):
        first = not self.received
        found = super().generate(requests, weights=weights)
        return [replace(found[0], logprobs=self.spoil(found[0].logprobs)), *found[1:]] if first else found


def step(make_pipeline, engine=None, *, says, recipe="rosd"):
    pipeline = make_pipeline(recipe, f"group_size={len(says[0])}", says=says)
    if engine is not None:
        pipeline = replace(pipeline, engine=engine, components=replace(pipeline.components, rollout=engine))
    return pipeline.step([PROBLEM], 0)


@pytest.mark.parametrize(
    "spoil",
    [lambda p: (float("nan"), *p[1:]), lambda p: (float("-inf"), *p[1:]), lambda p: p[:-1], lambda p: (*p, -1.0), lambda p: ()],
    ids=["nan", "infinity", "short", "long", "none"],
)
def test_a_response_without_sound_logprobs_is_skipped_and_counted(make_pipeline, student, spoil):
    says = [[WRONG, WRONG, RIGHT], [TOLD, VALID]]
    batch = step(make_pipeline, Spoiling(student.tokenizer, spoil, *says), says=says)
    assert batch.metrics["skip/bad_logprobs"] == 1
    assert [sample.success for sample in batch.samples] == [False, True]
    assert all(len(sample.behaviour_logprobs) == len(sample.response_ids) for sample in batch.samples)


def test_a_response_of_end_tokens_alone_is_a_sample_like_any_other(make_pipeline, student):
    end = student.tokenizer
    batch = step(make_pipeline, says=[[end.eos_token, RIGHT], [TOLD, VALID]])
    assert batch.samples[0].response_ids == (end.eos_token_id,) * 2
    assert batch.traces[0].case.rollout.completion.text == ""
    assert batch.samples[0].token_weights == (1.0, 1.0)  # the quote is missing, and the recipe then takes the whole response


@pytest.mark.parametrize(("text", "outcome"), [(WRONG, "all_wrong"), (RIGHT, "all_right")])
def test_a_group_of_one_and_the_same_response_teaches_nothing(make_pipeline, text, outcome):
    batch = step(make_pipeline, says=[[text] * 4])
    assert batch.samples == () and batch.metrics[f"gate/{outcome}"] == 1


def test_without_any_difference_in_reward_a_policy_gradient_has_no_sample_or_no_advantage(make_pipeline):
    pipeline = make_pipeline("grpo", "group_size=4", "gate=all", says=[[WRONG] * 4])
    batch = pipeline.step([PROBLEM], 0)
    objective = pipeline.components.objectives[0].objective
    assert all(objective.advantage(sample) == 0.0 for sample in batch.samples)
