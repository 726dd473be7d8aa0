"""Reading tags."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rosd_kit.text.tags import read_tag


@pytest.mark.parametrize(
    "text",
    [
        "<error_quote>x = 2</error_quote>",
        "<error_quote> x = 2 </error_quote>",
        "<Error_Quote>x = 2</ERROR_QUOTE>",
        "<error-quote>x = 2</error-quote>",
        "<error quote>x = 2</ error quote >",
        "<errorquote>x = 2</errorquote>",
        "<error_quote>x = 1</error_quote> no: <error_quote>x = 2</error_quote>",
        "a stray <error_quote> and <error_quote>x = 2</error_quote>",
        "<error_quote>x = 2</error_quote> then an open <error_quote> again",
        "</error_quote><error_quote>x = 2</error_quote></error_quote>",
    ],
)
def test_the_last_complete_pair_is_read_in_every_accepted_spelling(text):
    tagged = read_tag(text, "error_quote")
    assert (tagged.text, tagged.status) == ("x = 2", "ok")


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("nothing", "missing"),
        ("</error_quote>", "missing"),
        ("<error_quotes>x</error_quotes>", "missing"),
        ("<error_quote>x", "unclosed"),
        ("</error_quote>x<error_quote>", "unclosed"),
        ("<error_quote>  </error_quote>", "empty"),
        ("<error_quote>x</error_quote><error_quote></error_quote>", "empty"),
    ],
)
def test_every_other_outcome_has_a_status(text, status):
    tagged = read_tag(text, "error_quote")
    assert (tagged.text, tagged.status) == (None, status)


@given(before=st.text(), content=st.text(alphabet=st.characters(exclude_characters="<>")), after=st.text())
def test_the_last_pair_is_found_in_any_surrounding_text(before, content, after):
    tagged = read_tag(f"{before}<explanation>{content}</explanation>{after.replace('<', '')}", "explanation")
    assert tagged.text == (content.strip() or None)


@given(st.text(alphabet="<>/think a", max_size=60))
def test_any_text_can_be_read(text):
    assert read_tag(text, "think").status in {"ok", "missing", "unclosed", "empty"}


@pytest.mark.parametrize(
    ("text", "content"),
    [
        ("<explaination>x</explaination>", "x"),
        ("<Explanation>x</explaination>", "x"),
        ("<reflection>x</reflection>", "x"),
        ("<explanation>x</explanation><reflection>y</reflection>", "x"),
        ("<reflection>y <explanation>x</explanation></reflection>", "x"),
        ("<explanation></explanation><reflection>x</reflection>", "x"),
        ("<reflections>x</reflections>", None),
    ],
)
def test_an_alias_counts_where_the_tag_itself_has_no_content(text, content):
    assert read_tag(text, "explanation", ["explaination", "reflection"]).text == content
    assert read_tag("<explanation>", "explanation", ["reflection"]).status == "unclosed"


@pytest.mark.parametrize("text", ["<" + " " * 300_000, "< /" + " " * 300_000, "<error" + "_" * 300_000, "< " * 150_000])
def test_half_a_tag_is_read_in_one_pass(text):
    assert read_tag(text, "error_quote", ["quote"]).status == "missing"
    assert read_tag(text + "<error_quote>x</error_quote>", "error_quote").text == "x"
