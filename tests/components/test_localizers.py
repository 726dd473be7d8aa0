"""Which response tokens carry the signal."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rosd_kit.components.localizers import COMPONENTS, ErrorQuote, Full, OracleLocalizer, SkipFirst
from rosd_kit.types import FirstError, Reflection

TEXT = "First add. Then 2 + 2 = 5 holds. So Answer 5."
PIECES = re.findall(r" ?\S+", TEXT)
END = ["<end>"]


def weighted(found, pieces=PIECES, ended=True):
    """Return the tokens with weight 1, the end token as its own piece; every other weight must be 0."""
    tokens = [*pieces, *(END if ended else [])]
    assert len(found.weights) == len(tokens) and set(found.weights) <= {0.0, 1.0}
    return [token for token, weight in zip(tokens, found.weights, strict=True) if weight]


def quoting(quote, **more):
    return Reflection(idea="add well", quote=quote, **more)


def from_piece(first, pieces=PIECES):
    return [*pieces[pieces.index(first) :], *END]


@pytest.mark.parametrize(
    ("quote", "boundary", "first", "outcome", "start"),
    [
        ("2 + 2 = 5", "quote", " 2", "exact", 16),
        ("2 + 2 = 5", "sentence", " Then", "exact", 11),
        ("First add", "quote", "First", "exact", 0),
        ("First add", "sentence", "First", "exact", 0),
        ("5.", "quote", " 5.", "exact", 43),
        ("5.", "sentence", " So", "exact", 33),
        (TEXT, "quote", "First", "exact", 0),
        ("  2 + 2 = 5\n", "quote", " 2", "exact", 16),
        ("THEN 2 + 2", "quote", " Then", "normalised", 11),
        ("Then 2 + 2 = 6 holds.", "quote", " Then", "fuzzy", 11),
        ("hen 2", "quote", " Then", "exact", 12),
    ],
)
def test_weights_begin_at_the_first_token_that_overlaps_the_boundary(make_case, quote, boundary, first, outcome, start):
    localizer = ErrorQuote(ErrorQuote.Config(boundary=boundary))
    found = localizer.locate(make_case(PIECES, reflection=quoting(quote)))
    assert (found.outcome, found.start_char) == (outcome, start)
    assert weighted(found) == from_piece(first)


@pytest.mark.parametrize(
    ("missing", "expected", "start"),
    [("skip", [], None), ("full", [*PIECES, *END], None), ("sentence", from_piece(" So"), 33)],
)
@pytest.mark.parametrize(
    "reflection", [None, quoting(None), quoting(""), quoting("  "), quoting("nothing of the kind"), quoting("x" * 500)]
)
def test_a_missing_quote_follows_its_policy_and_says_so(make_case, missing, expected, start, reflection):
    found = ErrorQuote(ErrorQuote.Config(missing=missing)).locate(make_case(PIECES, reflection=reflection))
    assert (found.outcome, found.start_char) == ("missing", start)
    assert weighted(found) == expected


def test_fuzzy_matches_can_be_ruled_out(make_case):
    case = make_case(PIECES, reflection=quoting("Then 2 + 2 = 6 holds."))
    found = ErrorQuote(ErrorQuote.Config(min_ratio=101, missing="skip")).locate(case)
    assert (found.outcome, weighted(found)) == ("missing", [])


@pytest.mark.parametrize("localizer", [ErrorQuote(), OracleLocalizer()])
def test_a_right_rollout_has_weight_everywhere(make_case, localizer):
    truth = FirstError(status="error", start=16, end=25, sentence_start=11)
    found = localizer.locate(make_case(PIECES, right=True, reflection=quoting("2 + 2 = 5"), truth=truth))
    assert (found.outcome, weighted(found)) == ("right", [*PIECES, *END])


def test_a_repeated_quote_is_told_apart_by_the_idea_and_counted_as_ambiguous(make_case):
    text = "Step 1: x = 2. Step 2: x = 2. End."
    pieces = re.findall(r" ?\S+", text)
    case = make_case(pieces, reflection=Reflection(idea="In step 2 it must be 3", quote="x = 2"))
    found = ErrorQuote().locate(case)
    assert (found.outcome, found.start_char) == ("exact_ambiguous", text.rindex("x"))
    vague = ErrorQuote().locate(make_case(pieces, reflection=Reflection(idea="wrong", quote="x = 2")))
    assert (vague.outcome, vague.start_char) == ("exact_ambiguous", text.index("x"))


def test_a_known_position_beats_the_quotes_text(make_case):
    case = make_case(PIECES, reflection=quoting("First", quote_start=16))
    assert weighted(ErrorQuote().locate(case)) == from_piece(" 2")


@pytest.mark.parametrize("boundary", ["quote", "sentence"])
def test_a_response_that_stops_too_early_is_weighted_at_its_last_token(make_case, boundary):
    localizer = ErrorQuote(ErrorQuote.Config(boundary=boundary))
    reflection = Reflection(idea="go on", quote_start=len(TEXT))
    assert weighted(localizer.locate(make_case(PIECES, reflection=reflection))) == END
    cut = make_case(PIECES, reflection=reflection, ended=False)
    assert weighted(localizer.locate(cut), ended=False) == [" 5."]


def test_a_truncated_response_is_weighted_up_to_its_last_token(make_case):
    case = make_case(PIECES[:6], ended=False, reflection=quoting("2 + 2"))
    assert weighted(ErrorQuote().locate(case), PIECES[:6], ended=False) == PIECES[3:6]


@pytest.mark.parametrize(("missing", "expected"), [("skip", []), ("full", END), ("sentence", END)])
def test_an_empty_response_has_only_its_end_token(make_case, missing, expected):
    case = make_case([], reflection=quoting("anything"))
    assert weighted(ErrorQuote(ErrorQuote.Config(missing=missing)).locate(case), []) == expected


@pytest.mark.parametrize(("boundary", "first"), [("quote", " 2"), ("sentence", " Then")])
def test_the_oracle_begins_at_the_true_error(make_case, boundary, first):
    truth = FirstError(status="error", start=16, end=25, sentence_start=11)
    found = OracleLocalizer(OracleLocalizer.Config(boundary=boundary)).locate(make_case(PIECES, truth=truth))
    assert (found.outcome, weighted(found)) == ("exact", from_piece(first))


@pytest.mark.parametrize("truth", [None, FirstError(status="none")])
def test_the_oracle_without_an_error_says_missing(make_case, truth):
    found = OracleLocalizer().locate(make_case(PIECES, truth=truth))
    assert (found.outcome, weighted(found)) == ("missing", [*PIECES, *END])


def test_full_and_skip_first_do_not_look_for_the_error(make_case):
    case = make_case(PIECES, reflection=quoting("2 + 2 = 5"))
    assert weighted(Full().locate(case)) == [*PIECES, *END]
    assert weighted(SkipFirst().locate(case)) == [*PIECES[3:], *END]
    assert weighted(SkipFirst(SkipFirst.Config(n=0)).locate(case)) == [*PIECES, *END]
    assert weighted(SkipFirst(SkipFirst.Config(n=99)).locate(case)) == []
    assert not Full.locates and not SkipFirst.locates and ErrorQuote.locates


@pytest.mark.parametrize("component", COMPONENTS)
@pytest.mark.parametrize("right", [False, True])
def test_a_response_without_tokens_has_no_weights(make_case, component, right):
    case = make_case([], ended=False, right=right, truth=FirstError(status="incomplete", start=0, end=0, sentence_start=0))
    assert component().locate(case).weights == ()


@given(words=st.lists(st.sampled_from(["a", "b.", "c", "2", "= 3."]), min_size=1, max_size=12), data=st.data())
@settings(max_examples=200, deadline=None)
def test_the_quoted_characters_always_have_weight_and_nothing_before_their_token(make_case, words, data):
    pieces = [words[0], *(f" {word}" for word in words[1:])]
    text = "".join(pieces)
    start = data.draw(st.integers(0, len(text) - 1))
    end = data.draw(st.integers(start + 1, len(text)))
    if not text[start:end].strip():
        return
    case = make_case(pieces, reflection=Reflection(quote=text[start:end]))
    found = ErrorQuote().locate(case)
    spans = case.rollout.completion.token_spans
    assert found.start_char is not None and text[found.start_char :].startswith(text[start:end].strip())
    for weight, (a, b) in zip(found.weights, spans, strict=True):
        assert weight == float(b > found.start_char or a == len(text))
    assert sorted(found.weights) == list(found.weights)
