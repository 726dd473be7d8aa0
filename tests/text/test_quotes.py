"""Finding quotes in responses."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rosd_kit.text.quotes import find_quote

STEPS = "Step 1 : 26 + 5 = 33 . Step 2 : 33 - 7 = 26 . Step 3 : 26 + 5 = 33 . Answer : 33 ."


def match(text, quote, **options):
    quote_match = find_quote(text, quote, **options)
    return quote_match.outcome, text[quote_match.start : quote_match.end] if quote_match.occurrences else None


@pytest.mark.parametrize(
    ("text", "quote", "outcome", "matched"),
    [
        ("so x = 2 holds", "x = 2", "exact", "x = 2"),
        ("so x = 2 holds", "  x = 2\n", "exact", "x = 2"),
        ("so X  =\n2 holds", "x = 2", "normalised", "X  =\n2"),
        ("it is “half” – done", '"half" - done', "normalised", "“half” – done"),
        ("ｘ ＝ ２", "x = 2", "normalised", "ｘ ＝ ２"),
        (r"so \frac{1}{2}\,x~y", r"\frac{1}{2} x y", "normalised", r"\frac{1}{2}\,x~y"),
        ("the straße", "STRASSE", "normalised", "straße"),
        ("nothing alike", "x = 2", "missing", None),
        ("", "x", "missing", None),
        ("text", "   ", "missing", None),
        ("short", "a quote that is much longer than the text", "missing", None),
    ],
)
def test_a_quote_is_found_exactly_then_normalised_then_fuzzily(text, quote, outcome, matched):
    assert match(text, quote) == (outcome, matched)


def test_a_misspelt_quote_is_found_fuzzily_from_its_start():
    outcome, matched = match("we add seventeen to eight and get 26", "we add seventen to eight and get 26")
    assert outcome == "fuzzy" and matched.startswith("we add seventeen to eight and get 2")


def test_fuzzy_matching_can_be_turned_off():
    assert match("we add seventeen to eight", "we add seventen to eight", min_ratio=101.0) == ("missing", None)


def test_whole_words_come_before_parts_of_words():
    match = find_quote("25 and 2", "2")
    assert (match.start, match.occurrences) == (7, 1)
    assert find_quote("25 and 52", "2").start == 0


@pytest.mark.parametrize(
    ("hint", "step"),
    [
        ("", 1),
        ("26 + 5 = 31", 1),
        ("the 3 is wrong in 29 - 3 = 26", 1),
        ("In step 3 the sum is wrong", 3),
        ("Step 1 is wrong", 1),
        ("not step 30 but another", 1),
    ],
)
def test_the_first_of_repeated_quotes_is_chosen_unless_the_hint_names_another(hint, step):
    match = find_quote(STEPS, "26 + 5 = 33", hint=hint)
    assert match.start == STEPS.index("26 + 5 = 33", STEPS.index(f"Step {step}"))
    assert (match.outcome, match.occurrences) == ("exact", 2)


def test_overlapping_occurrences_all_count():
    assert find_quote("aaa", "aa").occurrences == 2


@given(before=st.text(max_size=30), quote=st.text(min_size=1, max_size=30), after=st.text(max_size=30))
@example("", "İ", "")
def test_a_verbatim_quote_is_found_exactly(before, quote, after):
    text = before + quote + after
    match = find_quote(text, quote)
    if quote.strip():
        assert (match.outcome, text[match.start : match.end]) == ("exact", quote.strip())
    else:
        assert match.outcome == "missing"


@settings(deadline=None)
@given(text=st.text(max_size=40), quote=st.text(max_size=40))
def test_a_match_always_lies_inside_the_text(text, quote):
    match = find_quote(text, quote)
    assert (match.outcome == "missing") == (match.occurrences == 0)
    if match.occurrences:
        assert 0 <= match.start < match.end <= len(text)


@settings(deadline=None)
@given(
    words=st.lists(st.text(alphabet="abcäßΩ日", min_size=1, max_size=5), min_size=1, max_size=6),
    gap=st.sampled_from(["  ", "\n", "\t \n"]),
)
def test_spacing_and_case_never_hide_a_quote(words, gap):
    text = f"start . {gap.join(words)} . end"
    quote_match = find_quote(text, " ".join(words).upper())
    assert quote_match.outcome in {"exact", "normalised"}
