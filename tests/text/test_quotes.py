"""Finding quotes in responses."""

from __future__ import annotations

import random
import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from rapidfuzz import fuzz

from rosd_kit.text.quotes import find_quote
from rosd_kit.text.sentences import sentence_start

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


@given(text=st.text(max_size=40), quote=st.text(max_size=40))
def test_a_match_always_lies_inside_the_text(text, quote):
    match = find_quote(text, quote)
    assert (match.outcome == "missing") == (match.occurrences == 0)
    if match.occurrences:
        assert 0 <= match.start < match.end <= len(text)


@given(
    words=st.lists(st.text(alphabet="abcäßΩ日", min_size=1, max_size=5), min_size=1, max_size=6),
    gap=st.sampled_from(["  ", "\n", "\t \n"]),
)
def test_spacing_and_case_never_hide_a_quote(words, gap):
    text = f"start . {gap.join(words)} . end"
    quote_match = find_quote(text, " ".join(words).upper())
    assert quote_match.outcome in {"exact", "normalised"}


DRESSED = (
    "Step 1: We have 26 + 5 = 31.\n\n"
    "Step 2: **Multiply** by 12 to get \\( 5 \\times 2 = 11 \\).\n"
    "> - So `x_1` is *half*, i.e. \\frac{1}{2}\\,x, and 3 * 4 \\leq 13.\n"
    "## Result\nHe said “done”, it’s 11."
)


@pytest.mark.parametrize(
    ("quote", "matched"),
    [
        ('"by 12 to get"', "by 12 to get"),
        ("“by 12 to get”", "by 12 to get"),
        ("«by 12 to get»", "by 12 to get"),
        ("「by 12 to get」", "by 12 to get"),
        ("'by 12 to get'", "by 12 to get"),
        ("`by 12 to get`", "by 12 to get"),
        ("**by 12 to get**", "by 12 to get"),
        ('_"by 12 to get"_', "by 12 to get"),
        ("<b>by 12</b> to get", "by 12 to get"),
        ("Multiply by 12", "Multiply** by 12"),
        ("- Step 2: Multiply by 12", "Step 2: **Multiply** by 12"),
        ("> Step 2: **Multiply** by 12", "Step 2: **Multiply** by 12"),
        ("### Step 2: Multiply", "Step 2: **Multiply"),
        ("2. Multiply by 12", "Multiply** by 12"),
        ("by 12 to get...", "by 12 to get"),
        ("… by 12 to get", "by 12 to get"),
        ("[...] by 12 to get [...]", "by 12 to get"),
        ("by 12 to get;", "by 12 to get"),
        ("Step 2: ... = 11", "Step 2: **Multiply** by 12 to get \\( 5 \\times 2 = 11"),
        ("“We have … by 12”", "We have 26 + 5 = 31.\n\nStep 2: **Multiply** by 12"),
        ("We have ... Step 2 ... = 11", "We have 26 + 5 = 31.\n\nStep 2: **Multiply** by 12 to get \\( 5 \\times 2 = 11"),
        ("5 × 2 = 11", "5 \\times 2 = 11"),
        ("$5 \\times 2=11$", "5 \\times 2 = 11"),
        ("\\(5\\times2=11\\)", "5 \\times 2 = 11"),
        ("5 · 2 = 11", "5 \\times 2 = 11"),
        ("x_1 is half", "x_1` is *half"),
        ("So x₁ is half, i.e. \\frac12 x", "So `x_1` is *half*, i.e. \\frac{1}{2}\\,x"),
        ("3 × 4 ≤ 13", "3 * 4 \\leq 13"),
        ("Result he said 'done'", "Result\nHe said “done"),
        ("it's 11", "it’s 11"),
        ("26+5=31", "26 + 5 = 31"),
    ],
)
def test_a_quote_is_found_in_any_dress(quote, matched):
    assert match(DRESSED, quote) == ("normalised", matched)


@pytest.mark.parametrize("quote", ["x is half ... We have 26", "by 12 to ... nothing of it", "...", "~~", "“”", "\\[\\]", ">>"])
def test_parts_in_another_order_and_markup_alone_are_missing(quote):
    assert match(DRESSED.removesuffix("it’s 11."), quote) == ("missing", None)


def test_a_decomposed_quote_is_found_in_a_composed_text_and_the_other_way_round():
    composed, apart = (unicodedata.normalize(form, "Zürich café 각") for form in ("NFC", "NFD"))
    assert match(f"at {composed} .", apart) == ("normalised", composed)
    assert match(f"at {apart} .", composed) == ("normalised", apart)


@pytest.mark.parametrize(
    ("text", "quote", "start"),
    [
        ("First we sum. The total of seven is 12. Then", "The totl of sevn is 12", "The total"),
        ("So it is done. Multiply seventeen by two", '"Multiply sevnteen by two"', "Multiply"),
        ("It is 5. Add eight to nine now", "Add eigt to nine", "Add eight"),
        ("加起来是三十一。然后乘以二得到六十。", "然后乘以三得到六十", "然后"),
    ],
)
def test_a_misspelt_quote_starts_at_its_own_word_in_its_own_sentence(text, quote, start):
    quote_match = find_quote(text, quote)
    assert (quote_match.outcome, quote_match.start) == ("fuzzy", text.index(start))
    assert sentence_start(text, quote_match.start) == sentence_start(text, text.index(start))


def test_exact_matching_finds_nothing_else():
    assert find_quote(STEPS, "26 + 5 = 33", hint="step 3", exact=True).start == STEPS.index("26 + 5", 40)
    assert find_quote(STEPS, "26 + 5 = 33 .", exact=True).outcome == "exact"
    assert find_quote(STEPS, "26 +  5 = 33", exact=True).outcome == find_quote(STEPS, "STEP 1", exact=True).outcome == "missing"


def simple_search(text: str, quote: str) -> tuple[str, int, int] | None:
    """Search as simply as possible, without regard to time: verbatim, then folded character by character, then fuzzily."""

    def folded(source: str) -> tuple[str, list[int]]:
        characters: list[tuple[str, int]] = []
        for at, character in enumerate(source):
            for plain in unicodedata.normalize("NFKC", character).casefold():
                if not plain.isspace():
                    characters.append((plain, at))
                elif characters and characters[-1][0] != " ":
                    characters.append((" ", at))
        while characters and characters[-1][0] == " ":
            characters.pop()
        return "".join(c for c, _ in characters), [at for _, at in characters]

    def whole_word(a: int, b: int) -> bool:
        return not any(0 < at < len(text) and text[at - 1].isalnum() and text[at].isalnum() for at in (a, b))

    searched, origin = folded(text)
    needle, _ = folded(quote)
    for outcome, haystack, wanted, where in (
        ("exact", text, quote, list(range(len(text)))),
        ("normalised", searched, needle, origin),
    ):
        starts = [at for at in range(len(haystack)) if haystack.startswith(wanted, at)]
        ranges = [(where[at], where[at + len(wanted) - 1] + 1) for at in starts]
        if ranges:
            return (outcome, *next((span for span in ranges if whole_word(*span)), ranges[0]))
    found = fuzz.partial_ratio_alignment(needle, searched, score_cutoff=80.0)
    return ("fuzzy", origin[found.dest_start], origin[found.dest_end - 1] + 1) if found else None


SANE = "we add seven to eight so the total of both is 15 = 7 + 8 because x equals y therefore divide answer".split()  # noqa: SIM905


def test_sane_quotes_are_found_where_a_simple_search_finds_them():
    rng, outcomes = random.Random(17), []
    for _ in range(400):
        text = " ".join(rng.choice(SANE) + rng.choice(["", "", "", "", ",", ".\n"]) for _ in range(rng.randrange(20, 80)))
        words = text.split(" ")
        at = rng.randrange(len(words) - 8)
        quote = " ".join(words[at : at + rng.randrange(3, 8)]).strip(" ,.\n")
        change = rng.choice(["none", "case", "space", "letter"])
        if change == "case":
            quote = quote.upper()
        elif change == "space":
            quote = quote.replace(" ", "  ")
        elif change == "letter" and len(quote) > 12:
            quote = quote[:9] + "q" + quote[10:]
        simple, quote_match = simple_search(text, quote), find_quote(text, quote)
        outcomes.append(simple[0] if simple else "missing")
        if simple and simple[0] != "fuzzy":
            assert (quote_match.outcome, quote_match.start, quote_match.end) == simple
        elif simple:
            assert quote_match.outcome == "fuzzy"
            assert max(quote_match.start, simple[1]) < min(quote_match.end, simple[2])
    assert {"exact", "normalised", "fuzzy"} <= set(outcomes)


LONG = "so we add 12 to `x` and get \\( y \\times 2 \\) .\n" * 2500


@pytest.mark.parametrize(
    ("text", "quote", "outcome"),
    [
        ("0 " * 50_000, "0", "exact"),
        ("a" * 100_000, "a" * 10_000, "exact"),
        ("a" * 100_000, "b" * 10_000, "missing"),
        ("ab" * 50_000, "ab" * 5_000 + "c" * 5_000, "missing"),
        (LONG, LONG[30_000:40_000].replace("`", "*"), "normalised"),
        (LONG, LONG[30_000:40_000].replace("get", "got"), "fuzzy"),
        (LONG, "so we ... " * 1_000 + "get", "normalised"),
        ("\\" * 100_000, "[ ." * 3_000, "missing"),
        ("e" + "\u0301" * 100_000, "x" + "\u0301" * 10_000, "missing"),
        ("." * 100_000, "x" + "." * 10_000 + "y", "fuzzy"),
    ],
)
def test_long_and_repetitive_texts_are_searched_at_a_bounded_cost(text, quote, outcome):
    assert find_quote(text, quote, hint="Step 3 " * 3_000).outcome == outcome
