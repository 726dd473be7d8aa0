"""Right answers that no response can reach are found before training."""

from __future__ import annotations

from dataclasses import replace

import pytest

from rosd_kit.components.verifiers import COMPONENTS
from tests.components.rows import asking

VERIFIERS = {component.name: component for component in COMPONENTS}


def why(name: str, answer: str, **options) -> str | None:
    verifier = VERIFIERS[name]
    return verifier(verifier.Config(**options)).check_gold(asking(answer))


@pytest.mark.parametrize(
    ("name", "options", "reachable", "unreachable"),
    [
        ("mcq", {"letters": "ABCD"}, ["A", "(b)", "Ｃ"], ["", "E", "2", "A or B", "None"]),
        ("exact", {"drop": " ?km"}, ["4 km", "None", "0"], ["", " ", "**", "km", "x" * 5000]),
        ("majority", {}, ["", "x"], []),
        ("math", {}, ["4", "\\frac{1}{2}"], ["", "  ", "$$"]),
        (
            "tool_use",
            {},
            ['[{"Action": "a", "Action_Input": {}}]', '[{"Action": "a", "Action_Input": "{}"}]'],
            ["", "[]", "a", '[{"Action": "a"}]', '[{"Action": null, "Action_Input": {}}]'],
        ),
        ("code", {}, ['[{"input": "1", "output": "2"}]', "assert f(1) == 2"], ["", "[]", "assert f(", '{"inputs": ["1"]}']),
    ],
)
def test_a_verifier_names_the_right_answers_that_it_can_never_see(name, options, reachable, unreachable):
    assert [why(name, answer, **options) for answer in reachable] == [None] * len(reachable)
    for answer in unreachable:
        assert repr(answer)[:60] in (why(name, answer, **options) or ""), answer


def test_the_message_says_what_is_allowed():
    assert why("mcq", "E", letters="ABCD") == "'E' is not one of the letters ABCD (verifier.letters)"


OPTIONS = "Which?\nA: red\nB: blue\nC: green"


@pytest.mark.parametrize(
    ("prompt", "answer", "fault"),
    [
        (OPTIONS, "C", None),
        (OPTIONS, "D", "'D' is not among the options ABC of the prompt"),
        ("Which?\nA) red\nB) blue\nC) green D) grey", "D", None),
        ("A: what?\nC: who?", "D", None),
        ("Pick a letter.", "D", None),
    ],
)
def test_a_letter_beyond_the_listed_options_is_an_error_of_the_data(prompt, answer, fault):
    problem = replace(asking(answer), messages=({"role": "user", "content": prompt},))
    assert VERIFIERS["mcq"](VERIFIERS["mcq"].Config(letters="ABCDEF")).check_gold(problem) == fault


@pytest.mark.parametrize("text", ["Answer: 1", "no answer", "<answer>A</answer>", "Action: a\nAction Input: {}"])
@pytest.mark.parametrize("name", ["mcq", "exact", "tool_use", "by_suite"])
def test_no_response_to_an_unreachable_answer_counts_as_wrong(name, text):
    mcq = VERIFIERS["mcq"]()
    verifier = (
        VERIFIERS["by_suite"](VERIFIERS["by_suite"].Config(default="mcq"), {}, mcq) if name == "by_suite" else VERIFIERS[name]()
    )
    verdict = verifier.verify(asking(""), text)
    assert (verdict.status, verdict.success) == ("error", False)


def test_an_unreachable_letter_is_an_error_of_the_data_not_a_wrong_response():
    mcq = VERIFIERS["mcq"](VERIFIERS["mcq"].Config(letters="ABCD"))
    assert [mcq.verify(asking("2"), f"<answer>{said}</answer>").status for said in ("B", "2", "")] == ["error"] * 3
    assert mcq.verify(asking("B"), "<answer>B</answer>").success
