"""Aligns a quote with a misspelt or shortened passage of a text, at a bounded cost."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from itertools import pairwise

from rapidfuzz import fuzz
from rapidfuzz.distance import Indel

from rosd_kit.text.folding import Folded, joins_words
from rosd_kit.text.sentences import sentence_starts

#: Longer texts are not searched.
_LONGEST_TEXT = 200_000
#: Largest product of text and quote lengths that is aligned as a whole, which takes well under a second.
_LARGEST_PRODUCT = 30_000_000
#: A run of equal characters this long belongs to the quote; shorter ones may be equal by chance.
_TRUE_RUN = 3

Range = tuple[int, int]


def align(text: str, folded: Folded, needle: str, min_ratio: float, *, one_sentence: bool) -> Range | None:
    """Return the range of `text` that is most like a folded quote, or None below `min_ratio` (0 to 100).

    The range begins at a word of the quote. If the quote is `one_sentence`, the range lies in one sentence. Of a quote that is
    too long for the text, only the beginning and the end are aligned.
    """
    searched = folded.text
    if not needle or len(searched) > _LONGEST_TEXT or len(needle) > len(searched):
        return None
    size = _LARGEST_PRODUCT // len(searched) // 2
    whole = len(needle) <= 2 * size
    first = _most_alike(needle if whole else needle[:size], searched, min_ratio)
    if first is None:
        return None
    starts = [bisect_left(folded.starts, at) for at in sentence_starts(text)] if one_sentence and whole else []
    start, end = _trim(needle if whole else needle[:size], searched, *first, starts)
    if not whole:
        rest = searched[first[1] : start + 2 * len(needle)]
        last = _most_alike(needle[-size:], rest, min_ratio) if len(rest) >= size else None
        if last is None:
            return None
        end = first[1] + last[1]
    return folded.original(start, end)


def _most_alike(needle: str, text: str, min_ratio: float) -> Range | None:
    found = fuzz.partial_ratio_alignment(needle, text, score_cutoff=min_ratio)
    return (found.dest_start, found.dest_end) if found is not None and found.dest_end > found.dest_start else None


def _trim(needle: str, text: str, start: int, end: int, sentences: Sequence[int]) -> Range:
    """Return the range from the first word that is the quote's, in the one sentence that holds most of the quote."""
    runs = [(op.dest_start + start, op.dest_end + start) for op in Indel.opcodes(needle, text[start:end]) if op.tag == "equal"]
    runs = [(a, b) for a, b in runs if b - a >= min(_TRUE_RUN, len(needle))] or [(start, end)]
    edges = [start, *(at for at in sentences if start < at < end), end]
    start, end = max(pairwise(edges), key=lambda edge: sum(max(0, min(b, edge[1]) - max(a, edge[0])) for a, b in runs))
    first = next(max(a, start) for a, b in runs if max(a, start) < min(b, end))
    first = next((at for at in range(first, end) if text[at].isalnum() or text[at] == needle[0]), first)
    while first > 0 and joins_words(text[first - 1], text[first]):  # the window may begin inside a word
        first -= 1
    return first, end
