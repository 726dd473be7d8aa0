"""Prompt templates."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rosd_kit.text.templates import check_template, fill


def test_fields_become_sections_with_their_priority_and_other_text_is_never_cut():
    sections = fill("Q: {problem} Idea: {idea}.", {"problem": "2+2", "idea": "add"}, {"idea": 1})
    assert [(s.text, s.cut_priority) for s in sections] == [
        ("Q: ", None),
        ("2+2", None),
        (" Idea: ", None),
        ("add", 1),
        (".", None),
    ]


def test_empty_fields_leave_no_section():
    assert [s.text for s in fill("{problem}{feedback}", {"problem": "p", "feedback": ""}, {})] == ["p"]


@given(value=st.text(), other=st.text())
def test_braces_in_data_are_plain_text(value, other):
    sections = fill(r"{problem} \frac{1}{2} {other}", {"problem": value, "other": other}, {})
    assert "".join(s.text for s in sections) == rf"{value} \frac{{1}}{{2}} {other}"


@pytest.mark.parametrize(("template", "field"), [("{problem} {idee}", "{idee}"), ("{idea}", "{problem}")])
def test_a_template_with_an_unknown_field_or_without_the_problem_is_refused(template, field):
    with pytest.raises(ValueError, match="problem") as caught:
        check_template(template, ["problem", "idea"])
    assert field in str(caught.value)


def test_a_valid_template_is_returned_unchanged():
    assert check_template("{problem} {idea} {1}", ["problem", "idea"]) == "{problem} {idea} {1}"


@pytest.mark.parametrize(
    ("template", "text"),
    [
        (r"{problem} \{problem} \{idea}", "2+2 {problem} {idea}"),
        (r"{problem} $\{idea} ${problem}$", "2+2 ${idea} $2+2$"),
        (r"{problem} \\{problem} \{a\} \frac{1}{2}", r"2+2 \\2+2 \{a\} \frac{1}{2}"),
    ],
)
def test_a_backslash_before_a_field_makes_it_text(template, text):
    known = ["problem", "idea"]
    assert "".join(s.text for s in fill(check_template(template, known), {"problem": "2+2", "idea": "add"}, {})) == text


@pytest.mark.parametrize("field", ["Problem", "IDEA", " idea ", "idee"])
def test_a_field_that_is_nearly_written_right_is_refused_with_the_right_one(field):
    with pytest.raises(ValueError, match=r"unknown field \{" + field) as caught:
        check_template(f"{{problem}} {{{field}}}", ["problem", "idea"])
    assert rf"\{{{field}}}" in str(caught.value) and "Did you mean" in str(caught.value)
