"""Finds a reflector's quote in the response: exactly, then normalised and without its markup, then with gaps, then fuzzily.

The work is linear in text and quote; only fuzzy matching costs more, and its cost is bounded.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from rosd_kit.text.folding import Folded, fold, undress
from rosd_kit.text.fuzzy import align
from rosd_kit.text.normal import normal_form
from rosd_kit.text.sentences import sentence_starts

QuoteOutcome = Literal["exact", "normalised", "fuzzy", "missing"]
Range = tuple[int, int]

#: What stands for left-out text in a quote.
_ELISION = re.compile(r"\[\s?(?:\.{3,}+|…)\s?\]|\(\s?(?:\.{3,}+|…)\s?\)|\.{3,}+|[…⋯]++|\. \. \.|\\[lc]?dots\b")
#: What a quote may have at its start and end that the text has not: a list number, punctuation.
_LIST_NUMBER = re.compile(r"\A\s*+\(?(?:\d{1,3}|[a-zA-Z])[.)]\s++")
_PUNCTUATION = ".,;:!?。，；：！？、"
#: Labels are short, like `Step 3`; longer text before a match in its sentence is no label.
_LONGEST_LABEL = 80
_LONGEST_HINT = 20_000


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


def find_quote(text: str, quote: str, *, hint: str = "", min_ratio: float = 80.0, exact: bool = False) -> QuoteMatch:
    """Return where `quote` occurs in `text`.

    Of several matches, the first whose label (the text before it in its sentence, like `Step 3`) occurs in `hint`, the
    reflection's explanation, is chosen; without such a match, the first, because the first error was asked for.

    A quote may differ from the text in case, spacing, markup (quotation marks, bold, code, list signs, LaTeX spacing) and in
    left-out parts: `...` at an end is ignored, and with `...` in the middle the range goes from the first part to the last.
    `min_ratio`, from 0 to 100, is rapidfuzz's `partial_ratio`; above 100 turns fuzzy matching off. `exact` turns off all but
    verbatim matches.
    """
    quote = quote.strip()
    if not quote:
        return MISSING
    choose = _Chooser(text, hint)
    if ranges := _occurrences(text, text, quote):
        return choose.match(ranges, "exact")
    if exact:
        return MISSING
    folded, needle = fold(text), fold(quote).text
    if not needle:
        return MISSING
    if ranges := _original_ranges(text, folded, needle):
        return choose.match(ranges, "normalised")
    bare = undress(text)
    if ranges := _without_dress(text, bare, quote):
        return choose.match(ranges, "normalised")
    parts = [part for part in _ELISION.split(quote) if undress(part).text.strip(_PUNCTUATION)]
    if len(parts) > 1:
        if ranges := _from_first_to_last(text, bare, parts[0], parts[-1]):
            return choose.match(ranges, "normalised")
    elif parts and parts[0].strip() != quote:
        quote = parts[0].strip()
        if ranges := _without_dress(text, bare, quote):
            return choose.match(ranges, "normalised")
    one_sentence = len(sentence_starts(quote)) == 1
    for searched, needle in ((folded, fold(quote).text), (bare, undress(quote).text)):
        if found := align(text, searched, needle, min_ratio, one_sentence=one_sentence):
            return QuoteMatch(start=found[0], end=found[1], outcome="fuzzy")
    return MISSING


def _without_dress(text: str, bare: Folded, quote: str) -> list[Range]:
    """Return the ranges of a quote without markup; if there are none, without a list number and punctuation at its ends."""
    needle = undress(quote).text
    shorter = undress(_LIST_NUMBER.sub("", quote, count=1)).text.strip(_PUNCTUATION)
    return _original_ranges(text, bare, needle) or (_original_ranges(text, bare, shorter) if shorter != needle else [])


def _from_first_to_last(text: str, bare: Folded, first: str, last: str) -> list[Range]:
    """Return the ranges from each occurrence of the first part to the next occurrence of the last part after it."""
    ends = _without_dress(text, bare, last)
    ranges = []
    for start, after in _without_dress(text, bare, first):
        following = bisect_right(ends, (after, -1))
        if following < len(ends):
            ranges.append((start, ends[following][1]))
    return ranges


def _original_ranges(text: str, folded: Folded, needle: str) -> list[Range]:
    return _occurrences(text, folded.text, needle, folded) if needle else []


def _occurrences(text: str, searched: str, needle: str, folded: Folded | None = None) -> list[Range]:
    """Return the ranges of `needle` in the text; only whole words if there are any, so `2` skips `25` if it occurs alone."""
    if needle not in searched:
        return []
    starts = _starts(searched, needle)
    ranges = [(at, at + len(needle)) if folded is None else folded.original(at, at + len(needle)) for at in starts]
    whole_words = [(a, b) for a, b in ranges if not _splits_word(text, a) and not _splits_word(text, b)]
    return whole_words or ranges


def _starts(text: str, needle: str) -> list[int]:
    """Return where `needle` occurs, overlaps included (Knuth, Morris and Pratt: linear also where text and needle repeat)."""
    borders, border = [0], 0
    for character in needle[1:]:
        while border and needle[border] != character:
            border = borders[border - 1]
        border += needle[border] == character
        borders.append(border)
    starts, matched = [], 0
    for at, character in enumerate(text):
        while matched and needle[matched] != character:
            matched = borders[matched - 1]
        matched += needle[matched] == character
        if matched == len(needle):
            starts.append(at + 1 - matched)
            matched = borders[-1]
    return starts


def _splits_word(text: str, at: int) -> bool:
    return 0 < at < len(text) and text[at - 1].isalnum() and text[at].isalnum()


class _Chooser:
    """Chooses among several matches the first that the hint names."""

    def __init__(self, text: str, hint: str) -> None:
        self._text, self._hint = text, normal_form(hint[:_LONGEST_HINT]).casefold()
        self._known: dict[str, bool] = {}

    def match(self, ranges: Sequence[Range], outcome: QuoteOutcome) -> QuoteMatch:
        start, end = ranges[0]
        if len(ranges) > 1 and self._hint:
            sentences = sentence_starts(self._text)
            start, end = next((span for span in ranges if self._is_named(span[0], sentences)), (start, end))
        return QuoteMatch(start=start, end=end, outcome=outcome, occurrences=len(ranges))

    def _is_named(self, at: int, sentences: Sequence[int]) -> bool:
        """Return whether the hint contains the label of this position: the text before it in its sentence, like `Step 3`."""
        start = sentences[max(0, bisect_right(sentences, at) - 1)]
        if at - start > _LONGEST_LABEL:
            return False
        label = normal_form(self._text[start:at]).strip(" \t:.,;)-*#>_、。").casefold()
        if label not in self._known:
            self._known[label] = bool(label) and self._is_in_hint(label)
        return self._known[label]

    def _is_in_hint(self, label: str) -> bool:
        at = self._hint.find(label)
        while at >= 0:
            end = at + len(label)
            if (label.isascii() is False or not _splits_word(self._hint, at)) and not _continues(self._hint, end):
                return True
            at = self._hint.find(label, at + 1)
        return False


def _continues(hint: str, end: int) -> bool:
    """Return whether a label goes on after `end`: `step 3` in `step 30`, but not a word of a script without spaces."""
    return _splits_word(hint, end) and hint[end].isascii()
