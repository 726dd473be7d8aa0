"""Rollouts that do not reach training are kept with the reason, and are in the samples."""

from __future__ import annotations

import pytest

import rosd_kit as rk
from rosd_kit.run.sample_records import sample_records
from rosd_kit.testing import fake_completion
from rosd_kit.types import Group, LeftOut, Rollout, StepBatch
from tests.pipeline.test_pipeline import PROBLEM, RIGHT, TOLD, VALID, WRONG
from tests.pipeline.test_truncated import stepped as stepped_with_truncated
from tests.pipeline.test_verifier_errors import BROKEN, stepped


def reasons(batch) -> dict[int, str]:
    return {one.index: one.reason for one in batch.left_out}


@pytest.mark.parametrize(("text", "outcome"), [(WRONG, "all_wrong"), (RIGHT, "all_right")])
def test_a_group_without_contrast_is_left_out_whole_with_the_gates_outcome(make_pipeline, text, outcome):
    batch = make_pipeline("rosd", "group_size=2", says=[[text, text]]).step([PROBLEM], 0)
    assert reasons(batch) == {0: f"gate: {outcome}", 1: f"gate: {outcome}"}
    assert batch.traces == ()


def test_a_rollout_without_a_verdict_is_left_out_of_a_group_that_trains(make_pipeline):
    batch = stepped(make_pipeline, [WRONG, BROKEN, RIGHT], [TOLD, VALID])
    assert reasons(batch) == {1: "verifier_error"}
    assert [trace.case.rollout.index for trace in batch.traces] == [0, 2]


@pytest.mark.parametrize(("gate", "expected"), [("keep", {}), ("mask", {0: "truncated"}), ("drop", {0: "truncated"})])
def test_a_rollout_that_was_cut_off_is_left_out_if_the_gate_says_so(make_pipeline, gate, expected):
    assert reasons(stepped_with_truncated(make_pipeline, f"gate.truncated={gate}", truncated={0})) == expected


def test_rollouts_that_a_gate_does_not_pass_are_left_out_of_a_group_that_it_passes(make_pipeline):
    batch = make_pipeline("rft", "group_size=3", says=[[RIGHT, WRONG, RIGHT]]).step([PROBLEM], 0)
    traced = {trace.case.rollout.index for trace in batch.traces}
    assert traced | reasons(batch).keys() == {0, 1, 2} and not traced & reasons(batch).keys()


def test_the_record_of_a_rollout_that_was_left_out_has_its_text_verdict_and_reason(make_pipeline):
    batch = make_pipeline("rosd", "group_size=2", says=[[WRONG, WRONG]]).step([PROBLEM], 0)
    records = list(sample_records(7, batch, lambda ids: f"{len(ids)} tokens"))
    assert [(r["step"], r["index"], r["status"], r["reason"]) for r in records] == [
        (7, 0, "left_out", "gate: all_wrong"),
        (7, 1, "left_out", "gate: all_wrong"),
    ]
    assert records[0]["response"] == WRONG and records[0]["success"] is False
    assert records[0]["student_prompt"] == f"{len(batch.groups[0].rollouts[0].completion.prompt_ids)} tokens"
    assert len(records[0]["token_ids"]) == len(records[0]["token_spans"])
    assert "weights" not in records[0]


@pytest.mark.parametrize(("localizer", "judged"), [("error_quote", True), ("full", False)])
def test_only_a_localizer_that_looks_for_the_error_can_miss_it(make_pipeline, localizer, judged):
    pipeline = make_pipeline("rosd", "group_size=2", f"localizer={localizer}", says=[[WRONG, RIGHT], [TOLD, VALID]])
    locates = pipeline.components.localizer.locates
    records = list(sample_records(1, pipeline.step([PROBLEM], 0), str, locates=locates))
    known = [record["judged"] for record in records if record["judged"] is not None]
    assert known and all(("start" in one) == judged for one in known)


def batch_of(groups: int) -> StepBatch:
    rollout = Rollout(index=0, completion=fake_completion("x"), verdict=rk.Verdict(score=0.0, success=False))
    problems = [rk.Problem(id=f"p{n}", messages=(), answer="") for n in range(groups)]
    return StepBatch(
        samples=(),
        groups=tuple(Group(problem=problem, rollouts=(rollout,)) for problem in problems),
        traces=(),
        metrics={},
        left_out=tuple(LeftOut(problem_id=problem.id, index=0, reason="gate: all_wrong") for problem in problems),
    )


@pytest.mark.parametrize(("share", "count"), [(1.0, 8), (0.5, 4), (0.3, 3), (0.01, 1)])
def test_a_share_of_the_groups_is_recorded_rounded_up(share, count):
    records = list(sample_records(3, batch_of(8), str, share=share))
    assert len({record["problem"] for record in records}) == len(records) == count


def test_which_groups_are_recorded_depends_on_the_step_alone():
    def chosen(step):
        return {record["problem"] for record in sample_records(step, batch_of(8), str, share=0.25)}

    assert chosen(1) == chosen(1)
    assert len({frozenset(chosen(step)) for step in range(6)}) > 1
