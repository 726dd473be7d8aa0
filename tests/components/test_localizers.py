"""Localizers: which response tokens get weight."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rosd_kit.components.localizers import COMPONENTS, ErrorQuote, Full, OracleLocalizer, SkipFirst
from rosd_kit.types import FirstError, Reflection

TEXT = "First add. Then 2 + 2 = 5 holds. So Answer 5."
TOKENS = re.findall(r" ?\S+", TEXT)
END = ["<end>"]


def weighted(token_weights, token_texts=TOKENS, ended=True):
    """Return the tokens with weight 1, end token included; every other weight must be 0."""
    tokens = [*token_texts, *(END if ended else [])]
    assert len(token_weights.weights) == len(tokens) and set(token_weights.weights) <= {0.0, 1.0}
    return [token for token, weight in zip(tokens, token_weights.weights, strict=True) if weight]


def quoting(quote, **fields):
    return Reflection(idea="add well", quote=quote, **fields)


def from_token(first, token_texts=TOKENS):
    return [*token_texts[token_texts.index(first) :], *END]


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
def test_weights_start_at_the_first_token_that_overlaps_the_boundary(make_case, quote, boundary, first, outcome, start):
    localizer = ErrorQuote(ErrorQuote.Config(boundary=boundary))
    token_weights = localizer.locate(make_case(TOKENS, reflection=quoting(quote)))
    assert (token_weights.outcome, token_weights.start_char) == (outcome, start)
    assert weighted(token_weights) == from_token(first)


@pytest.mark.parametrize(
    ("missing", "expected", "start"),
    [("skip", [], None), ("full", [*TOKENS, *END], None), ("sentence", from_token(" So"), 33)],
)
@pytest.mark.parametrize(
    "reflection", [None, quoting(None), quoting(""), quoting("  "), quoting("nothing of the kind"), quoting("x" * 500)]
)
def test_a_missing_quote_follows_the_option_missing(make_case, missing, expected, start, reflection):
    token_weights = ErrorQuote(ErrorQuote.Config(missing=missing)).locate(make_case(TOKENS, reflection=reflection))
    assert (token_weights.outcome, token_weights.start_char) == ("missing", start)
    assert weighted(token_weights) == expected


@pytest.mark.parametrize(
    ("quote", "first", "outcome"),
    [
        ('"2 + 2 = 5"', " 2", "normalised"),
        ("- Then **2 + 2** = 5", " Then", "normalised"),
        ("Then ... Answer", " Then", "normalised"),
    ],
)
def test_exact_matching_takes_only_verbatim_quotes(make_case, quote, first, outcome):
    case = make_case(TOKENS, reflection=quoting(quote))
    lenient = ErrorQuote().locate(case)
    assert (lenient.outcome, weighted(lenient)) == (outcome, from_token(first))
    exact = ErrorQuote(ErrorQuote.Config(match="exact"))
    assert exact.locate(case).outcome == "missing"
    assert exact.locate(make_case(TOKENS, reflection=quoting(" 2 + 2 = 5 "))).outcome == "exact"


def test_fuzzy_matching_can_be_turned_off(make_case):
    case = make_case(TOKENS, reflection=quoting("Then 2 + 2 = 6 holds."))
    token_weights = ErrorQuote(ErrorQuote.Config(min_ratio=101, missing="skip")).locate(case)
    assert (token_weights.outcome, weighted(token_weights)) == ("missing", [])


@pytest.mark.parametrize("localizer", [ErrorQuote(), OracleLocalizer()])
def test_a_right_rollout_gets_weight_everywhere(make_case, localizer):
    truth = FirstError(status="error", start=16, end=25, sentence_start=11)
    token_weights = localizer.locate(make_case(TOKENS, right=True, reflection=quoting("2 + 2 = 5"), truth=truth))
    assert (token_weights.outcome, weighted(token_weights)) == ("right", [*TOKENS, *END])


def test_the_idea_selects_among_repeated_quotes_and_the_outcome_is_ambiguous(make_case):
    text = "Step 1: x = 2. Step 2: x = 2. End."
    token_texts = re.findall(r" ?\S+", text)
    case = make_case(token_texts, reflection=Reflection(idea="In step 2 it must be 3", quote="x = 2"))
    token_weights = ErrorQuote().locate(case)
    assert (token_weights.outcome, token_weights.start_char) == ("exact_ambiguous", text.rindex("x"))
    vague = ErrorQuote().locate(make_case(token_texts, reflection=Reflection(idea="wrong", quote="x = 2")))
    assert (vague.outcome, vague.start_char) == ("exact_ambiguous", text.index("x"))


def test_a_known_position_takes_precedence_over_the_quote(make_case):
    case = make_case(TOKENS, reflection=quoting("First", quote_start=16))
    assert weighted(ErrorQuote().locate(case)) == from_token(" 2")


@pytest.mark.parametrize("boundary", ["quote", "sentence"])
def test_a_response_that_stops_too_early_gets_weight_on_its_last_token(make_case, boundary):
    localizer = ErrorQuote(ErrorQuote.Config(boundary=boundary))
    reflection = Reflection(idea="go on", quote_start=len(TEXT))
    assert weighted(localizer.locate(make_case(TOKENS, reflection=reflection))) == END
    cut = make_case(TOKENS, reflection=reflection, ended=False)
    assert weighted(localizer.locate(cut), ended=False) == [" 5."]


def test_a_truncated_response_gets_weight_up_to_its_last_token(make_case):
    case = make_case(TOKENS[:6], ended=False, reflection=quoting("2 + 2"))
    assert weighted(ErrorQuote().locate(case), TOKENS[:6], ended=False) == TOKENS[3:6]


@pytest.mark.parametrize(("missing", "expected"), [("skip", []), ("full", END), ("sentence", END)])
def test_an_empty_response_has_only_its_end_token(make_case, missing, expected):
    case = make_case([], reflection=quoting("anything"))
    assert weighted(ErrorQuote(ErrorQuote.Config(missing=missing)).locate(case), []) == expected


@pytest.mark.parametrize(("boundary", "first"), [("quote", " 2"), ("sentence", " Then")])
def test_the_oracle_starts_at_the_true_error(make_case, boundary, first):
    truth = FirstError(status="error", start=16, end=25, sentence_start=11)
    token_weights = OracleLocalizer(OracleLocalizer.Config(boundary=boundary)).locate(make_case(TOKENS, truth=truth))
    assert (token_weights.outcome, weighted(token_weights)) == ("exact", from_token(first))


@pytest.mark.parametrize("truth", [None, FirstError(status="none")])
def test_without_a_true_error_the_oracle_reports_missing(make_case, truth):
    token_weights = OracleLocalizer().locate(make_case(TOKENS, truth=truth))
    assert (token_weights.outcome, weighted(token_weights)) == ("missing", [*TOKENS, *END])


def test_full_and_skip_first_ignore_the_error(make_case):
    case = make_case(TOKENS, reflection=quoting("2 + 2 = 5"))
    assert weighted(Full().locate(case)) == [*TOKENS, *END]
    assert weighted(SkipFirst().locate(case)) == [*TOKENS[3:], *END]
    assert weighted(SkipFirst(SkipFirst.Config(n=0)).locate(case)) == [*TOKENS, *END]
    assert weighted(SkipFirst(SkipFirst.Config(n=99)).locate(case)) == []
    assert not Full.locates and not SkipFirst.locates and ErrorQuote.locates


@pytest.mark.parametrize("component", COMPONENTS)
@pytest.mark.parametrize("right", [False, True])
def test_a_response_without_tokens_has_no_weights(make_case, component, right):
    case = make_case([], ended=False, right=right, truth=FirstError(status="incomplete", start=0, end=0, sentence_start=0))
    assert component().locate(case).weights == ()


@given(words=st.lists(st.sampled_from(["a", "b.", "c", "2", "= 3."]), min_size=1, max_size=12), data=st.data())
@settings(max_examples=200)
def test_quoted_characters_always_have_weight_and_earlier_tokens_never(make_case, words, data):
    token_texts = [words[0], *(f" {word}" for word in words[1:])]
    text = "".join(token_texts)
    start = data.draw(st.integers(0, len(text) - 1))
    end = data.draw(st.integers(start + 1, len(text)))
    if not text[start:end].strip():
        return
    case = make_case(token_texts, reflection=Reflection(quote=text[start:end]))
    token_weights = ErrorQuote().locate(case)
    spans = case.rollout.completion.token_spans
    assert token_weights.start_char is not None and text[token_weights.start_char :].startswith(text[start:end].strip())
    for weight, (a, b) in zip(token_weights.weights, spans, strict=True):
        assert weight == float(b > token_weights.start_char or a == len(text))
    assert sorted(token_weights.weights) == list(token_weights.weights)
