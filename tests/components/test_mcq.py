"""Multiple choice, on real rows and on answers with several letters."""

from __future__ import annotations

import pytest

from rosd_kit.components.verifiers import MultipleChoice
from tests.components.rows import asking, rows

SUBJECTS = ["biology", "chemistry", "material", "physics"]


def judge(text: str, answer: str = "B", **options) -> tuple[bool, str]:
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
def test_a_decorated_letter_is_read(text):
    assert judge(text) == (True, "ok")


@pytest.mark.parametrize("text", ["<answer>A</answer>", r"\boxed{C}", "<answer>B</answer> <answer>D</answer>"])
def test_another_letter_is_wrong(text):
    assert judge(text) == (False, "ok")


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
def test_a_response_without_a_single_option_is_unparsable(text):
    assert judge(text) == (False, "unparsable")


def test_tag_letters_and_boxes_are_options():
    assert judge("<choice>E</choice>", "E", tag="choice", letters="ABCDE") == (True, "ok")
    assert judge("<answer>E</answer>", "A", letters="ABCD") == (False, "unparsable")
    assert judge(r"\boxed{B}", boxed=False) == (False, "unparsable")


@pytest.mark.parametrize("subject", SUBJECTS)
def test_in_every_real_row_only_the_reference_letter_is_right(subject):
    data = rows(f"sciknoweval-{subject}.train") + rows(f"sciknoweval-{subject}.test")
    assert len(data) >= 100
    for row in data:
        right = [
            letter for letter in "ABCD" if judge(f"<reasoning>x</reasoning><answer>\n{letter}\n</answer>", row["answer"])[0]
        ]
        assert right == [row["answer"]]


@pytest.mark.parametrize(
    "text",
    [
        r"<answer>\boxed{B}</answer>",
        r"\boxed{<answer>B</answer>}",
        r"<answer>\boxed{\text{B}}</answer>",
        r"<answer>\(B\)</answer>",
        r"\boxed{\rm B}",
        r"\boxed{A} <answer>\boxed{B}</answer>",
        r"<answer>B</answer> \boxed{A}",
        r"\fbox{B}",
    ],
)
def test_tags_count_before_boxes_and_either_may_enclose_the_other(text):
    assert judge(text) == (True, "ok")


@pytest.mark.parametrize(
    "text", [r"<answer>\boxed{A} or \boxed{B}</answer>", r"<answer>\boxed{B} 12</answer>", "<answer>B) 12</answer>"]
)
def test_a_box_beside_other_text_in_the_tag_is_no_option(text):
    assert judge(text) == (False, "unparsable")


def test_a_strict_verifier_takes_only_the_capital_letter_in_the_tag():
    assert judge("<answer>\nB\n</answer>", strict=True) == (True, "ok")
    assert judge("<answer>A</answer>", strict=True) == (False, "ok")
    for text in (
        "<answer>b</answer>",
        "<answer>(B)</answer>",
        "<answer>**B**</answer>",
        r"\boxed{B}",
        r"<answer>\boxed{B}</answer>",
    ):
        assert judge(text, strict=True) == (False, "unparsable")
