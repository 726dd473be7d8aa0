"""Answers that hedge, hide or are enormous, and each verifier's verdict on them as (success, status)."""

from __future__ import annotations

import pytest

from rosd_kit.components.verifiers import Exact, Majority, Math, MultipleChoice, ToolUse
from rosd_kit.contracts import Verifier
from tests.components.rows import asking

RIGHT, WRONG, UNPARSABLE, ERROR = (True, "ok"), (False, "ok"), (False, "unparsable"), (False, "error")
LONG = "x" * 1_000_000
RTL, POP, THIN = "\u202e", "\u202c", "\u200b"


def judge(verifier: Verifier, answer: str, text: str) -> tuple[bool, str]:
    verdict = verifier.verify(asking(answer), text)
    assert verdict.score == float(verdict.success)
    return verdict.success, verdict.status


@pytest.fixture(scope="module")
def math():
    pytest.importorskip("math_verify")
    verifier = Math(Math.Config(workers=1, deadline=60, boxed_only=True))
    yield verifier
    verifier._pool.close()


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
        (r"\boxed{" + "{" * 3000 + "204" + "}" * 3000 + "}", UNPARSABLE),
        (r"\boxed{" + "{" * 1_000_000, UNPARSABLE),
        (r"\boxed{٢٠٤}", WRONG),
        (rf"{RTL}\boxed{{204}}{POP}", RIGHT),
        (rf"\boxed{{{RTL}204{POP}}}", WRONG),
        (LONG + r"\boxed{204}", RIGHT),
        (r"\boxed{204}" + " \n" * 500_000, RIGHT),
        (r"\boxed{204}" + LONG, UNPARSABLE),
        (r"\boxed{" + "9" * 3000 + "}", WRONG),
        ("The answer is 204.", UNPARSABLE),
        (r"\boxed{} 204", UNPARSABLE),
        (r"\boxed{204", UNPARSABLE),
        (r"<think>\boxed{204}</think>", UNPARSABLE),
        (r"<answer>204</answer>", UNPARSABLE),
        (r"\boxed{\text{__import__('os').abort()}}", WRONG),
        (r"\boxed{x = 204}", RIGHT),
    ],
)
def test_math_verdicts(math, text, expected):
    assert judge(math, "204", text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<answer>B</answer><answer>C</answer>", WRONG),
        ("<answer>C</answer> <answer>B</answer>", RIGHT),
        ("<answer><answer>B</answer></answer>", RIGHT),
        ("</answer>B<answer>", UNPARSABLE),
        ("<answer>{{{B}}}</answer>", RIGHT),
        (rf"<answer>{RTL}B{POP}</answer>", UNPARSABLE),
        (f"<answer>B{THIN}</answer>", UNPARSABLE),
        ("<answer>Β</answer>", UNPARSABLE),
        ("<answer>②</answer>", UNPARSABLE),
        ("<answer>B" + LONG + "</answer>", UNPARSABLE),
        ("<answer>B</answer>" + LONG, RIGHT),
        ("<answer>" * 200_000 + "B</answer>", RIGHT),
        ("<think>" * 100_000 + "<answer>B</answer>", UNPARSABLE),
        ("<answer>A</answer></think><answer>B</answer>", RIGHT),
        ('{"answer": "B"}', UNPARSABLE),
    ],
)
def test_multiple_choice_verdicts(text, expected):
    assert judge(MultipleChoice(), "B", text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('Action: get\nAction Input: {"n": 1}\nAction: put\nAction Input: {}', WRONG),
        ('Action: get\nAction Input: {"n": 1, "n": 2}', WRONG),
        ('Action: get\nAction Input: {"n": ١}', UNPARSABLE),
        ('Action: get\nAction Input: {"n": 1}' + "}" * 1_000_000, RIGHT),
        ('Action: get\nAction Input: {"n": ' + '{"a":' * 5000 + "1" + "}" * 5001, UNPARSABLE),
        ('Action: get\nAction Input: {"n": ' + "9" * 100_000 + "}", UNPARSABLE),
        ('Action: get\nAction Input: {"n": 1e400}', WRONG),
        ('Action: get\nAction Input: {"n": NaN}', WRONG),
        (f'Action: {RTL}get{POP}\nAction Input: {{"n": 1}}', WRONG),
        (LONG + '\nAction: get\nAction Input: {"n": 1}', RIGHT),
        ('<think>Action: put\nAction Input: {}</think>Action: get\nAction Input: {"n": 1}', RIGHT),
        ("Action: get\n" * 20_000, UNPARSABLE),
    ],
)
def test_tool_use_verdicts(text, expected):
    assert judge(ToolUse(), '[{"Action": "get", "Action_Input": "{\\"n\\": 1}"}]', text) == expected


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
        ("Answer: 204" + LONG, UNPARSABLE),
        ("<answer>204</answer>", UNPARSABLE),
    ],
)
def test_exact_verdicts_and_those_of_a_majority_of_one(text, expected):
    assert judge(Exact(), "204", text) == expected
    assert judge(Majority(), "204", text) == expected


def test_answers_that_only_look_alike_have_no_majority():
    texts = ["Answer: 204", f"Answer: {RTL}204", "Answer: ٢٠٤", "Answer: 204 or 205"]
    assert not any(verdict.success for verdict in Majority().verify_group(asking("204"), texts))


@pytest.mark.parametrize(
    ("verifier", "answers"),
    [(MultipleChoice(), ["", "AB", "none of these"]), (ToolUse(), ["", "{}", "[1]", '[{"Action": "a"}]', "[" * 9999])],
)
def test_an_invalid_reference_answer_gives_status_error(verifier, answers):
    for answer in answers:
        assert judge(verifier, answer, "<answer>A</answer>\nAction: a\nAction Input: {}") == ERROR


def test_feedback_reveals_the_right_answer_only_on_request(math):
    verifiers = {"mcq": MultipleChoice, "tool": ToolUse, "math": Math}
    cases = {"mcq": ("B", "<answer>A</answer>"), "math": ("204", r"\boxed{1}")}
    cases["tool"] = ('[{"Action": "secret", "Action_Input": "{}"}]', "Action: other\nAction Input: {}")
    for name, cls in verifiers.items():
        answer, text = cases[name]
        word = "secret" if name == "tool" else answer
        quiet, loud = (cls(cls.Config(reveal=reveal)).verify(asking(answer), text).feedback for reveal in (False, True))
        assert quiet and word not in quiet and word in loud
