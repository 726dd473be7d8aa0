"""Finds a reflector's quote in the response: exactly, then normalised, then fuzzily."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import Literal

from rapidfuzz import fuzz

from rosd_kit.text.sentences import sentence_start

_LATEX_SPACE = re.compile(r"\\[,;:! ]|~")
_FOLDS = str.maketrans({"‘": "'", "’": "'", "“": '"', "”": '"', "–": "-", "—": "-", "−": "-", "‐": "-"})
QuoteOutcome = Literal["exact", "normalised", "fuzzy", "missing"]

#: Longer texts are not searched fuzzily, because alignment time grows with text length times quote length.
_FUZZY_LIMIT = 200_000


@dataclass(frozen=True, kw_only=True)
class QuoteMatch:
    """Where a quote was found, as a half-open character range; -1 and -1 if the outcome is `missing`.

    `occurrences` counts the matches at that level of strictness; more than one means that the choice was ambiguous.
    """

    start: int
    end: int
    outcome: QuoteOutcome
    occurrences: int = 1


MISSING = QuoteMatch(start=-1, end=-1, outcome="missing", occurrences=0)


def find_quote(text: str, quote: str, *, hint: str = "", min_ratio: float = 80.0) -> QuoteMatch:
    """Return where `quote` occurs in `text`.

    Of several matches, the first whose label (the text before it in its sentence, like `Step 3`) occurs in `hint`, the
    reflection's explanation, is chosen; without such a match, the first, because the first error was asked for.
    `min_ratio`, from 0 to 100, is rapidfuzz's `partial_ratio`; above 100 turns fuzzy matching off.
    """
    quote = quote.strip()
    if not quote:
        return MISSING
    ranges = _occurrences(text, quote)
    if ranges:
        return _choose(text, ranges, "exact", hint)
    folded, origin = _normalise(text)
    needle, _ = _normalise(quote)
    if not needle:
        return MISSING
    ranges = [(origin[a], origin[b - 1] + 1) for a, b in _occurrences(folded, needle)]
    if ranges:
        return _choose(text, ranges, "normalised", hint)
    if len(text) <= _FUZZY_LIMIT and len(needle) <= len(folded):
        alignment = fuzz.partial_ratio_alignment(needle, folded, score_cutoff=min_ratio)
        if alignment is not None and alignment.dest_end > alignment.dest_start:
            start, end = origin[alignment.dest_start], origin[alignment.dest_end - 1] + 1
            return QuoteMatch(start=start, end=end, outcome="fuzzy")
    return MISSING


def _occurrences(text: str, quote: str) -> list[tuple[int, int]]:
    """Return the ranges of `quote` in `text`; only whole words if there are any, so `2` skips `25` if it occurs alone."""
    ranges = [(m.start(), m.start() + len(quote)) for m in re.finditer(f"(?={re.escape(quote)})", text)]
    whole_words = [(a, b) for a, b in ranges if not _splits_word(text, a) and not _splits_word(text, b)]
    return whole_words or ranges


def _splits_word(text: str, at: int) -> bool:
    return 0 < at < len(text) and text[at - 1].isalnum() and text[at].isalnum()


def _normalise(text: str) -> tuple[str, list[int]]:
    """Return the text with case, width, quotes, dashes and spacing folded, and the source index of each character."""
    out: list[str] = []
    origin: list[int] = []
    spaces = {m.start(): m.end() for m in _LATEX_SPACE.finditer(text)}
    at = 0
    while at < len(text):
        end = spaces.get(at, at + 1)
        folded = " " if at in spaces else unicodedata.normalize("NFKC", text[at]).translate(_FOLDS).casefold()
        for character in folded:
            if character.isspace():
                character = " "
                if not out or out[-1] == " ":
                    continue
            out.append(character)
            origin.append(at)
        at = end
    while out and out[-1] == " ":
        out.pop()
        origin.pop()
    return "".join(out), origin


def _choose(text: str, ranges: list[tuple[int, int]], outcome: QuoteOutcome, hint: str) -> QuoteMatch:
    named = [span for span in ranges if _is_named(text, span[0], hint)]
    start, end = (named or ranges)[0]
    return QuoteMatch(start=start, end=end, outcome=outcome, occurrences=len(ranges))


def _is_named(text: str, at: int, hint: str) -> bool:
    """Return whether the hint contains the label of this position: the text before it in its sentence, like `Step 3`."""
    label = text[sentence_start(text, at) : at].strip(" \t:.,;)-*#").casefold()
    return bool(label) and re.search(rf"(?<!\w){re.escape(label)}(?!\w)", hint.casefold()) is not None
