"""Boxes: nesting, what is not closed, and several that are one answer."""

from __future__ import annotations

import pytest

from rosd_kit.text.boxes import joined_boxes, last_box


@pytest.mark.parametrize(
    ("text", "content"),
    [
        (r"\boxed{5}", "5"),
        (r"\boxed {5}", "5"),
        (r"\boxed 5", "5"),
        (r"\fbox{5}", "5"),
        (r"\boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        (r"\boxed{\{1\}}", r"\{1\}"),
        (r"\boxed{\boxed{5}}", r"\boxed{5}"),
        (r"\boxed{4} \boxed{5}", "5"),
        (r"\boxed{5", ""),
        (r"\boxed{4} then \boxed{", ""),
        ("none", None),
        (r"\boxedness{5}", None),
    ],
)
def test_the_last_box_is_read(text, content):
    assert last_box(text) == content


@pytest.mark.parametrize(
    ("text", "contents", "alternatives"),
    [
        (r"\boxed{(2,2)} and \boxed{(6,2)}", ["(2,2)", "(6,2)"], False),
        (r"\boxed{1}, \boxed{2} and \boxed{3}", ["1", "2", "3"], False),
        (r"\boxed{3} or \boxed{4}", ["3", "4"], True),
        (r"\boxed{3}. Wait, \boxed{4}", ["4"], False),
        (r"\boxed{3} no, \boxed{4}", ["4"], False),
        (r"\boxed{3} because of the rule \boxed{4}", ["4"], False),
        (r"\boxed{4} and again \boxed{4}", ["4"], False),
        (r"\boxed{3} and \boxed{", [], False),
    ],
)
def test_boxes_of_one_sentence_are_one_answer(text, contents, alternatives):
    assert joined_boxes(text) == (contents, alternatives)
