"""Placeholders of field templates: every column can be named, misspelt ones are errors, braces can be text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rosd_kit.data.fields import FieldError, check_fields, fill_fields, fill_optional, missing_field


@pytest.mark.parametrize(
    "column",
    [
        "问题",
        "вопрос",
        "प्रश्न",
        "مسئلہ",
        "question?",
        "1",
        "7b",
        "price ($)",
        "a-b",
        "first name",
        "it's",
        "x, y",
        "naïve",
        "π²",
    ],
)
def test_a_column_of_any_name_stands_between_braces(column):
    assert fill_fields(f"Q: {{{column}}}!", {"other": "?", column: "1+1"}) == "Q: 1+1!"


@given(st.text(st.characters(exclude_characters="\n", exclude_categories=["Cs"]), min_size=1, max_size=12))
def test_a_quoted_name_is_taken_as_it_is(column):
    for quote in "'\"":
        written = quote + column.replace(quote, quote * 2) + quote
        assert fill_fields(f"<{{{written}}}>{{{written}|json}}", {column: 5}) == "<5>5"
        assert fill_fields(f"{{{written}.0.{written}}}", {column: [{column: "deep"}]}) == "deep"


def test_a_column_named_with_dots_comes_before_a_path():
    assert fill_fields("{a.b} {a.c.0} {d.e.f}", {"a.b": 1, "a": {"b": 2, "c": [3]}, "d": {"e.f": 4}}) == "1 3 4"


def test_a_column_is_found_in_either_normal_form():
    assert fill_fields("{re\u0301ponse} {r\u00e9ponse}", {"r\u00e9ponse": "oui"}) == "oui oui"


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{qestion}", "{qestion}: there is no 'qestion'. Did you mean 'question'? The row has: question, notes, a?"),
        ("{Question}", "Did you mean 'question'"),
        ("{ question }", "Did you mean 'question'"),
        ("{question|}", "{question|}: there is no 'question|'"),
        ("{notes.by}", "there is no 'by'"),
        ("{'qu estion'}", "Did you mean 'question'"),
        ("{答え}", r"For the text {答え} itself write \{答え}"),
        ("${CC}", r"For the text {CC} itself write \{CC}"),
    ],
)
def test_an_unknown_placeholder_is_an_error_with_the_columns_and_the_nearest(template, message):
    with pytest.raises(FieldError) as caught:
        fill_fields(template, {"question": "?", "notes": {"of": "x"}, "a?": 1})
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("template", "text"),
    [
        (r"\{question}", "{question}"),
        (r"make $\{CC} or ${question}$", "make ${CC} or $?$"),
        (r"\{问题} \{any thing|at all}", "{问题} {any thing|at all}"),
        (r"\boxed{} \frac{1}{2} \boxed{{question}}", r"\boxed{} \frac{1}{2} \boxed{?}"),
        (r"the set \{question, 1\} or \{question\}", r"the set \{question, 1\} or \{question\}"),
        (r"\\{question} \\\{question}", r"\\? \\{question}"),
        ('{"name": "add", "input": {"a": [1]}} {a, b} {x > 0}', '{"name": "add", "input": {"a": [1]}} {a, b} {x > 0}'),
        ("{\n question\n}", "{\n question\n}"),
    ],
)  # fmt: skip
def test_braces_can_be_text(template, text):
    assert fill_fields(check_fields(template), {"question": "?", "a": 1}) == text


@given(st.text(alphabet="{}$\\'\"question. |1", max_size=20))
def test_text_of_a_row_is_never_read_as_a_template(text):
    assert fill_fields("{question} {n}", {"question": text, "n": "{question}"}) == f"{text} {{question}}"
    assert fill_optional("{question}", {"question": text}) == (text or None)


@given(st.text(alphabet="{}$\\'\"question. |1\n", max_size=30))
def test_any_template_gives_text_or_a_field_error(template):
    try:
        assert isinstance(fill_fields(template, {"question": "?", "1": 1}), str)
    except FieldError as error:
        assert "{" in str(error) or "filter" in str(error)


def test_an_optional_field_may_be_null_missing_or_empty_but_not_misspelt():
    for row in ({"how": None}, {"how": ""}, {"n": 1}):
        assert fill_optional("{how}", row) is None
    assert missing_field("{how}", {"how": None}) is None and missing_field("{how} {n}", {"n": 1}) is None
    assert "Did you mean 'how'?" in str(missing_field("{hwo}", {"how": None}))
