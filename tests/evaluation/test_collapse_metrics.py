"""Collapse metrics of hand-made groups, and the phrases that reveal a leak."""

from __future__ import annotations

import pytest

from rosd_kit.evaluation.collapse_metrics import collapse_metrics
from rosd_kit.text.leaks import leaks
from rosd_kit.types import Completion, Group, Problem, Rollout, Verdict


def rollout(answer: str | None, correct: bool, ids: tuple[int, ...], *, text: str = "", status: str = "ok") -> Rollout:
    logprobs = tuple(-float(i) for i in range(len(ids)))
    spans = ((0, 0),) * len(ids)
    completion = Completion(
        prompt_ids=(1,), token_ids=ids, logprobs=logprobs, text=text, token_spans=spans, finish_reason="stop"
    )
    verdict = Verdict(score=float(correct), success=correct, answer=answer, status=status)
    return Rollout(index=0, completion=completion, verdict=verdict)


def group(*rollouts: Rollout) -> Group:
    return Group(problem=Problem(id="p", messages=(), answer="4"), rollouts=rollouts)


def test_metrics_of_known_groups():
    mixed = group(
        rollout("4", True, (1, 2)), rollout("5", False, (1, 2)), rollout("6", False, (1, 3)), rollout("6", False, (1, 4))
    )
    wrong = group(*[rollout("7", False, (1, 2, 1, 2), text="According to the reference solution, 7.")] * 4)
    assert collapse_metrics([mixed, wrong]) == {
        "rollout/entropy": pytest.approx((4 * (0 + 1) + 4 * (0 + 1 + 2 + 3)) / 24),
        "diversity/answers": (3 / 4 + 1 / 4) / 2,
        "diversity/wrong_answers": (2 / 3 + 1 / 4) / 2,
        "diversity/bigrams": (3 / 4 + 2 / 12) / 2,
        "diversity/pass_at_k": 0.5,
        "diversity/gap": 0.5 - 1 / 8,
        "leak/reference": 0.5,
    }


def test_undefined_metrics_are_left_out():
    failed = group(rollout(None, False, (1,), status="error"))
    assert collapse_metrics([failed]) == {"rollout/entropy": 0.0, "leak/reference": 0.0}
    assert collapse_metrics([]) == {}
    correct = collapse_metrics([group(rollout("4", True, (1, 2)), rollout(None, True, (1, 2)))])
    assert correct["diversity/answers"] == 0.5 and "diversity/wrong_answers" not in correct


@pytest.mark.parametrize(
    "text",
    [
        "According to the reference solution, x = 2.",
        "as stated in the provided answer",
        "This matches the given solution.",
        "Following the key idea, we add 5.",
        "The reference answer says 12.",
        "Based on the correct example solution we get",
        "26 + 5 = 31 . Key idea : add",
    ],
)
def test_phrases_that_refer_to_the_teachers_context_are_leaks(text):
    assert leaks(text)


@pytest.mark.parametrize(
    "text",
    [
        "The solution of the equation is x = 2.",
        "The answer is 12.",
        "According to the theorem, the sides are equal.",
        "Based on the given information, the total is 5.",
        "We follow the definition of the reference frame.",
        "The correct answer is (B).",
        "Step 1 : 26 + 5 = 31 . Answer : 31 .",
    ],
)
def test_ordinary_phrases_are_not_leaks(text):
    assert not leaks(text)
