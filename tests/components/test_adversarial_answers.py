"""Answers that try to be several, hide, or are enormous: what each verifier makes of them, as (success, status)."""

from __future__ import annotations

import pytest

from rosd_kit.components.verifiers import Exact, Majority, Math, MultipleChoice, ToolUse
from rosd_kit.contracts import Verifier
from tests.components.rows import asking

RIGHT, WRONG, UNREAD, ERROR = (True, "ok"), (False, "ok"), (False, "unparsable"), (False, "error")
LONG = "x" * 1_000_000
RTL, POP, THIN = "\u202e", "\u202c", "\u200b"


def judged(verifier: Verifier, answer: str, text: str) -> tuple[bool, str]:
    verdict = verifier.verify(asking(answer), text)
    assert verdict.score == float(verdict.success)
    return verdict.success, verdict.status


@pytest.fixture(scope="module")
def math():
    pytest.importorskip("math_verify")
    made = Math(Math.Config(workers=1, deadline=60, boxed_only=True))
    yield made
    made._pool.close()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (r"\boxed{72}. Wait, no. \boxed{204}", RIGHT),
        (r"\boxed{204}. Wait, no. \boxed{72}", WRONG),
        (r"\boxed{204}\boxed{205}", WRONG),
        (r"\boxed{204, 205}", WRONG),
        (r"\boxed{204 \text{ or } 205}", WRONG),
        (r"\boxed{\{204, 205\}}", WRONG),
        (r"\boxed{{{204}}}", RIGHT),
        (r"\boxed{\{204\}}", RIGHT),  # math-verify: a set of one number is the number
        (r"\boxed{" + "{" * 3000 + "204" + "}" * 3000 + "}", UNREAD),
        (r"\boxed{" + "{" * 1_000_000, UNREAD),
        (r"\boxed{٢٠٤}", WRONG),
        (rf"{RTL}\boxed{{204}}{POP}", RIGHT),
        (rf"\boxed{{{RTL}204{POP}}}", WRONG),
        (LONG + r"\boxed{204}", RIGHT),
        (r"\boxed{204}" + " \n" * 500_000, RIGHT),
        (r"\boxed{204}" + LONG, UNREAD),
        (r"\boxed{" + "9" * 3000 + "}", WRONG),
        ("The answer is 204.", UNREAD),
        (r"\boxed{} 204", UNREAD),
        (r"\boxed{204", UNREAD),
        (r"<think>\boxed{204}</think>", UNREAD),
        (r"<answer>204</answer>", UNREAD),
        (r"\boxed{\text{__import__('os').abort()}}", WRONG),
        (r"\boxed{x = 204}", RIGHT),
    ],
)
def test_mathematics(math, text, expected):
    assert judged(math, "204", text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<answer>B</answer><answer>C</answer>", WRONG),
        ("<answer>C</answer> <answer>B</answer>", RIGHT),
        ("<answer><answer>B</answer></answer>", RIGHT),
        ("</answer>B<answer>", UNREAD),
        ("<answer>{{{B}}}</answer>", RIGHT),
        (rf"<answer>{RTL}B{POP}</answer>", UNREAD),
        (f"<answer>B{THIN}</answer>", UNREAD),
        ("<answer>Β</answer>", UNREAD),
        ("<answer>②</answer>", UNREAD),
        ("<answer>B" + LONG + "</answer>", UNREAD),
        ("<answer>B</answer>" + LONG, RIGHT),
        ("<answer>" * 200_000 + "B</answer>", RIGHT),
        ("<think>" * 100_000 + "<answer>B</answer>", UNREAD),
        ("<answer>A</answer></think><answer>B</answer>", RIGHT),
        ('{"answer": "B"}', UNREAD),
    ],
)
def test_multiple_choice(text, expected):
    assert judged(MultipleChoice(), "B", text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('Action: get\nAction Input: {"n": 1}\nAction: put\nAction Input: {}', WRONG),
        ('Action: get\nAction Input: {"n": 1, "n": 2}', WRONG),
        ('Action: get\nAction Input: {"n": ١}', UNREAD),
        ('Action: get\nAction Input: {"n": 1}' + "}" * 1_000_000, RIGHT),
        ('Action: get\nAction Input: {"n": ' + '{"a":' * 5000 + "1" + "}" * 5001, UNREAD),
        ('Action: get\nAction Input: {"n": ' + "9" * 100_000 + "}", UNREAD),
        ('Action: get\nAction Input: {"n": 1e400}', WRONG),
        ('Action: get\nAction Input: {"n": NaN}', WRONG),
        (f'Action: {RTL}get{POP}\nAction Input: {{"n": 1}}', WRONG),
        (LONG + '\nAction: get\nAction Input: {"n": 1}', RIGHT),
        ('<think>Action: put\nAction Input: {}</think>Action: get\nAction Input: {"n": 1}', RIGHT),
        ("Action: get\n" * 20_000, UNREAD),
    ],
)
def test_tool_use(text, expected):
    assert judged(ToolUse(), '[{"Action": "get", "Action_Input": "{\\"n\\": 1}"}]', text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Answer: 204\nAnswer: 205", WRONG),
        ("Answer: 204 or 205", WRONG),
        ("Answer: ٢٠٤", WRONG),
        (f"Answer: {RTL}204", WRONG),
        ("Answer: {204}", WRONG),
        (LONG + "Answer: 204", RIGHT),
        ("Answer: 204" + " " * 1_000_000, RIGHT),
        ("Answer: 204" + LONG, UNREAD),
        ("<answer>204</answer>", UNREAD),
    ],
)
def test_exact_match_and_the_majority_of_one(text, expected):
    assert judged(Exact(), "204", text) == expected
    assert judged(Majority(), "204", text) == expected


def test_a_group_of_forgeries_has_no_majority():
    texts = ["Answer: 204", f"Answer: {RTL}204", "Answer: ٢٠٤", "Answer: 204 or 205"]
    assert not any(verdict.success for verdict in Majority().verify_group(asking("204"), texts))


@pytest.mark.parametrize(
    ("verifier", "answers"),
    [(MultipleChoice(), ["", "AB", "none of these"]), (ToolUse(), ["", "{}", "[1]", '[{"Action": "a"}]', "[" * 9999])],
)
def test_an_answer_of_the_data_that_cannot_be_right_is_an_error_and_not_a_wrong_response(verifier, answers):
    for answer in answers:
        assert judged(verifier, answer, "<answer>A</answer>\nAction: a\nAction Input: {}") == ERROR


def test_the_right_answer_is_told_only_where_that_is_asked_for(math):
    told = {"mcq": MultipleChoice, "tool": ToolUse, "math": Math}
    cases = {"mcq": ("B", "<answer>A</answer>"), "math": ("204", r"\boxed{1}")}
    cases["tool"] = ('[{"Action": "secret", "Action_Input": "{}"}]', "Action: other\nAction Input: {}")
    for name, cls in told.items():
        answer, text = cases[name]
        word = "secret" if name == "tool" else answer
        quiet, loud = (cls(cls.Config(reveal=reveal)).verify(asking(answer), text).feedback for reveal in (False, True))
        assert quiet and word not in quiet and word in loud
