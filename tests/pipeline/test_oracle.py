"""What was found against the true first error."""

from __future__ import annotations

import pytest

from rosd_kit.pipeline.oracle import judge_reflection, judge_start, judged_truth
from rosd_kit.types import Case, Completion, FirstError, Problem, Reflection, Rollout, Verdict

SENTENCES = [
    "Step 1 : 2 + 2 = 4 . ",
    "Step 2 : 4 + 3 = 7 . ",
    "Step 3 : 7 - 1 = 9 . ",
    "Step 4 : 9 + 1 = 10 . ",
    "Answer : 10 .",
]
TEXT = "".join(SENTENCES)
CLAIM = "7 - 1 = 9"
STARTS = [TEXT.index(sentence) for sentence in SENTENCES]
TRUTH = FirstError(
    status="error",
    step=2,
    start=TEXT.index(CLAIM),
    end=TEXT.index(CLAIM) + len(CLAIM),
    sentence_start=STARTS[2],
    replacement="7 - 1 = 6",
    idea="7 - 1 = 6 . 6 + 1 = 7",
)
EARLY = FirstError(status="incomplete", start=len(TEXT), end=len(TEXT), sentence_start=len(TEXT), replacement="Answer : 7")


@pytest.mark.parametrize(
    ("start", "outcome"),
    [
        (TRUTH.start, "exact_start"),
        (STARTS[2], "exact_start"),
        (STARTS[2] + 2, "within_step"),
        (TRUTH.start + 4, "within_step"),
        (STARTS[1], "within_step"),
        (STARTS[1] + 9, "within_step"),
        (STARTS[3], "within_step"),
        (STARTS[3] + 9, "within_step"),
        (STARTS[0], "missed"),
        (STARTS[4], "missed"),
        (len(TEXT), "missed"),
        (None, "missed"),
    ],
)
def test_a_start_is_exact_at_either_boundary_and_near_one_step_away(start, outcome):
    assert judge_start(TEXT, TRUTH, start) == outcome


@pytest.mark.parametrize(("start", "outcome"), [(len(TEXT), "exact_start"), (STARTS[4], "within_step"), (STARTS[1], "missed")])
def test_a_response_that_stops_early_errs_at_its_end(start, outcome):
    assert judge_start(TEXT, EARLY, start) == outcome


def test_an_error_in_the_first_sentence_is_near_the_second():
    truth = FirstError(status="error", start=9, end=18, sentence_start=0)
    assert [judge_start(TEXT, truth, start) for start in STARTS[:3]] == ["exact_start", "within_step", "missed"]


@pytest.mark.parametrize(
    ("reflection", "right"),
    [
        (Reflection(quote=CLAIM, idea=TRUTH.idea), (1, 1)),
        (Reflection(quote=f" {CLAIM} ", idea="  7 - 1  = 6"), (1, 1)),
        (Reflection(quote="Step 3 : 7 - 1 = 9", idea="6 + 1 = 7"), (0, 0)),
        (Reflection(quote="7 - 1", idea="7 - 1 = 66 . 66 + 1 = 67"), (0, 0)),
        (Reflection(quote=None, idea="7 - 1 ="), (0, 0)),
        (Reflection(status="unparsable"), (0, 0)),
    ],
)
def test_a_reflection_is_asked_for_the_quote_and_the_right_claim(reflection, right):
    found = judge_reflection(TEXT, TRUTH, reflection)
    assert (found["quote_asked"], found["idea_asked"]) == (1, 1)
    assert (found["quote_right"], found["idea_right"]) == right


def test_no_quote_is_asked_of_a_response_that_stops_early_and_nothing_of_a_skipped_one():
    found = judge_reflection(TEXT, EARLY, Reflection(quote="x", idea="Answer : 7 ."))
    assert found == {"quote_asked": 0, "quote_right": 0, "idea_asked": 1, "idea_right": 1}
    assert judge_reflection(TEXT, TRUTH, Reflection(status="skipped")) == {}


@pytest.mark.parametrize(
    ("truth", "success", "judged"),
    [(TRUTH, False, True), (TRUTH, True, False), (None, False, False), (FirstError(status="none"), False, False)],
)
def test_only_wrong_rollouts_with_a_known_error_are_judged(truth, success, judged):
    completion = Completion(prompt_ids=(), token_ids=(), logprobs=(), text=TEXT, token_spans=(), finish_reason="stop")
    verdict = Verdict(score=float(success), success=success)
    rollout = Rollout(index=0, completion=completion, verdict=verdict)
    case = Case(problem=Problem(id="p", messages=(), answer=""), rollout=rollout, truth=truth)
    assert judged_truth(case) == (truth if judged else None)
