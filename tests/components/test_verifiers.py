"""The verifiers `exact` and `micro`, on typical answers and on arbitrary text."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from rosd_kit.components.verifiers import Exact, Majority, MicroVerifier
from rosd_kit.types import Problem

BOXED = r"\\boxed\{((?:[^{}]|\{[^{}]*\})*)\}"
LETTER = r"(?i:answer)\s*(?:is|:)?\s*\(?([A-E])\b"


def asking(answer: str) -> Problem:
    return Problem(id="p", messages=({"role": "user", "content": "?"},), answer=answer)


def judge(text: str, answer: str, **options) -> tuple[bool, str]:
    verdict = Exact(Exact.Config(**options)).verify(asking(answer), text)
    assert verdict.score == float(verdict.success)
    return verdict.success, verdict.status


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("2 + 2 = 4.\nAnswer: 4", "4"),
        ("Answer: 4.", "4"),
        ("**Answer:** 42", "42"),
        ("Answer: **42.**", "42"),
        ("Answer: $42$.", "42"),
        ("answer : `x = 3`", "x = 3"),
        ("ANSWER:   New \t York  ", "New York"),
        ("Answer: 1\nWait.\nAnswer: 2", "2"),
        ("Answer: -0.5", "-0.5"),
        ("Answer: .5", ".5"),
        ("x" * 10_000 + "\nAnswer: 7", "7"),
    ],
)
def test_a_decorated_answer_is_right(text, answer):
    assert judge(text, answer) == (True, "ok")


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("Answer: 4", "5"),
        ("Answer: 42", "4"),
        ("Answer: 2\nWait.\nAnswer: 1", "2"),
        ("Answer: .5", "5"),
        ("Answer: -4", "4"),
        ("Answer: b", "B"),
        ("Answer: 1,234", "1234"),
    ],
)
def test_another_answer_is_wrong(text, answer):
    assert judge(text, answer) == (False, "ok")


@pytest.mark.parametrize("text", ["", "4", "The result is 4.", "Answer:", "Answer: ", "Answer: **", "Answer: 4\n" + "x" * 5000])
def test_no_answer_is_unparsable_and_wrong(text):
    assert judge(text, "4") == (False, "unparsable")


def test_an_empty_answer_is_never_right():
    assert judge("Answer: $.", "4") == (False, "unparsable")
    assert judge("Answer: $.", "*") == judge("Answer: 4", "*") == (False, "error"), "nor is the response at fault"


@pytest.mark.parametrize(
    ("text", "answer", "drop"),
    [
        ("Answer: 1,234,567", "1234567", r",(?=\d{3})"),
        ("Answer: 1234", "1,234", r",(?=\d{3})"),
        ("Answer: $1,234.", "1234", r",(?=\d{3})"),
        ("Answer: 12 km.", "12", r" ?(km|cm)$"),
        ("Answer: 12km", "12 km", r" ?(km|cm)$"),
    ],
)
def test_drop_removes_commas_and_units_from_both_answers(text, answer, drop):
    assert judge(text, answer, drop=drop) == (True, "ok")


@pytest.mark.parametrize(
    ("text", "answer", "right"),
    [
        (r"So \boxed{4}.", "4", True),
        (r"First \boxed{3}, no: \boxed{\frac{1}{2}}.", r"\frac{1}{2}", True),
        (r"\boxed{5}", "4", False),
    ],
)
def test_a_pattern_can_read_boxed_answers_with_nested_braces(text, answer, right):
    assert judge(text, answer, pattern=BOXED) == (right, "ok")


@pytest.mark.parametrize(
    ("text", "right"),
    [("Answer: (B) Paris", True), ("The answer is B.", True), ("Answer: B) Paris", True), ("answer: C", False)],
)
def test_a_pattern_can_read_multiple_choice_letters(text, right):
    assert judge(text, "B", pattern=LETTER) == (right, "ok")


def test_ignore_case_ignores_case():
    assert judge("Answer: Straße", "STRASSE", ignore_case=True) == (True, "ok")


@pytest.mark.parametrize(
    ("option", "message"),
    [({"pattern": "x"}, "exactly one group"), ({"pattern": "(x"}, "regular expression"), ({"drop": "["}, "regular expression")],
)
def test_a_pattern_that_cannot_work_is_refused(option, message):
    with pytest.raises(ValidationError, match=message):
        Exact.Config(**option)


@pytest.mark.parametrize(
    ("text", "success", "status", "feedback"),
    [
        ("Step 1 : 17 + 8 = 25 . Answer : 25 .", True, "ok", "Answer 25 is Right"),
        ("Answer : 25 . Answer : 26 .", False, "ok", "Answer 26 is Wrong"),
        ("Answer: 25.", True, "ok", "Answer 25 is Right"),
        ("Answer : 255 .", False, "ok", "Answer 255 is Wrong"),
        ("25", False, "unparsable", "no Answer"),
        ("Answer :", False, "unparsable", "no Answer"),
        ("", False, "unparsable", "no Answer"),
    ],
)
def test_micro_takes_the_last_answer(text, success, status, feedback):
    verdict = MicroVerifier().verify(asking("25"), text)
    assert (verdict.success, verdict.score, verdict.status, verdict.feedback) == (success, float(success), status, feedback)


@given(text=st.text(max_size=300) | st.text(max_size=40).map("Answer: {}".format), answer=st.text(max_size=20))
@settings(max_examples=300)
def test_verifiers_never_raise(text, answer):
    for verifier in (Exact(), Exact(Exact.Config(pattern=BOXED, ignore_case=True)), MicroVerifier()):
        verdict = verifier.verify(asking(answer), text)
        assert verdict.status in (("error",) if verifier.check_gold(asking(answer)) else ("ok", "unparsable"))
        assert verdict.status == "ok" or not verdict.success


@given(answer=st.text(alphabet=st.characters(exclude_categories=["Z", "C"]), min_size=1, max_size=20))
@settings(max_examples=200)
def test_any_right_answer_is_right(answer):
    success, status = judge(f"Some words.\nAnswer: {answer}", answer)
    unreachable = Exact().check_gold(asking(answer)) is not None
    assert (status == "error") == unreachable
    assert success or status != "ok" or "answer" in answer.casefold()


def test_a_group_is_judged_in_order():
    verdicts = Exact().verify_group(asking("4"), ["Answer: 4", "", "Answer: 5"])
    assert [(v.success, v.status) for v in verdicts] == [(True, "ok"), (False, "unparsable"), (False, "ok")]


EXPONENTIAL = r"answer: ((?:a+)+)b"


def test_a_pattern_that_never_ends_gives_status_error_and_the_next_response_is_judged():
    verifier = Exact(Exact.Config(pattern=EXPONENTIAL))
    assert verifier.verify(asking("aa"), "answer: " + "a" * 60 + "c").status == "error"
    assert verifier.verify(asking("aa"), "answer: aab").success
    majority = Majority(Majority.Config(pattern=EXPONENTIAL))
    verdicts = majority.verify_group(asking("aa"), ["answer: aab", "answer: " + "a" * 60 + "c"])
    assert [(verdict.status, verdict.success) for verdict in verdicts] == [("ok", True), ("error", False)]


@pytest.mark.parametrize("text", [r"Answer: \boxed{5}", "Answer: <answer>5</answer>", r"Answer: $\boxed{5}$.", "Answer: 5"])
def test_exact_takes_the_answer_out_of_tags_and_boxes(text):
    assert Exact().verify(asking("5"), text).success
