"""Multiple choice, on real rows and on answers that try to be several."""

from __future__ import annotations

import pytest

from rosd_kit.components.verifiers import MultipleChoice
from tests.components.rows import asking, rows

SUBJECTS = ["biology", "chemistry", "material", "physics"]


def judged(text: str, answer: str = "B", **options) -> tuple[bool, str]:
    verdict = MultipleChoice(MultipleChoice.Config(**options)).verify(asking(answer), text)
    assert verdict.score == float(verdict.success) and verdict.feedback
    return verdict.success, verdict.status


@pytest.mark.parametrize(
    "text",
    [
        "<answer>B</answer>",
        "<reasoning>\nIt is A? No.\n</reasoning>\n<answer>\nB\n</answer>\n",
        "<answer>(B)</answer>",
        "<answer> **B**. </answer>",
        "<answer>b</answer>",
        "<answer>Ｂ</answer>",
        "<answer>A</answer> Wait. <answer>B</answer>",
        "<think><answer>A</answer></think><answer>B</answer>",
        "Thus <answer>A</answer></think> so <answer>B</answer>",
        r"So \boxed{B}",
        r"So \boxed{A}, no: $\boxed{\text{B}}$",
        r"\boxed{A} <answer>B</answer>",
        "x" * 1_000_000 + "<answer>B</answer>",
        "<answer>A <answer>B</answer>",
    ],
)
def test_right_in_any_dress(text):
    assert judged(text) == (True, "ok")


@pytest.mark.parametrize("text", ["<answer>A</answer>", r"\boxed{C}", "<answer>B</answer> <answer>D</answer>"])
def test_wrong(text):
    assert judged(text) == (False, "ok")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "B",
        "<answer></answer>",
        "<answer>B",
        "<answer>AB</answer>",
        "<answer>A or B</answer>",
        "<answer>A, B, C, D</answer>",
        "<answer>B: Sr8Ni8O24</answer>",
        "<answer>K</answer>",
        "<answer>٢</answer>",
        "<think><answer>B</answer></think>",
        "<think><answer>B</answer>",
        r"\boxed{A, B}",
        r"\boxed{B",
        r"\boxed{" + "{" * 10_000,
        "<answer>" + "B" * 1_000_000 + "</answer>",
        r"<answer>none</answer> \boxed{B}",
    ],
)
def test_no_single_option(text):
    assert judged(text) == (False, "unparsable")


def test_options_of_the_verifier():
    assert judged("<choice>E</choice>", "E", tag="choice", letters="ABCDE") == (True, "ok")
    assert judged("<answer>E</answer>", "E", letters="ABCD") == (False, "unparsable")
    assert judged(r"\boxed{B}", boxed=False) == (False, "unparsable")


@pytest.mark.parametrize("subject", SUBJECTS)
def test_every_real_row_is_right_with_its_own_letter_alone(subject):
    found = rows(f"sciknoweval-{subject}.train") + rows(f"sciknoweval-{subject}.test")
    assert len(found) >= 100
    for row in found:
        said = [
            letter for letter in "ABCD" if judged(f"<reasoning>x</reasoning><answer>\n{letter}\n</answer>", row["answer"])[0]
        ]
        assert said == [row["answer"]]
