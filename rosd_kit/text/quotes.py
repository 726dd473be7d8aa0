"""Finding what a reflector quoted in the text that it quoted from: exactly, then normalised, then fuzzily."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

from rapidfuzz import fuzz

from rosd_kit.text.sentences import sentence_start

_LATEX_SPACE = re.compile(r"\\[,;:! ]|~")
_FOLDS = str.maketrans({"‘": "'", "’": "'", "“": '"', "”": '"', "–": "-", "—": "-", "−": "-", "‐": "-"})
#: Longer texts are not searched fuzzily: alignment takes time in proportion to text times quote.
_FUZZY_LIMIT = 200_000


@dataclass(frozen=True, kw_only=True)
class QuoteMatch:
    """Where a quote stands: `exact`, `normalised`, `fuzzy` or `missing` (then `start` and `end` are -1).

    `occurrences` counts the places at that level of strictness; more than one means the choice was ambiguous.
    """

    start: int
    end: int
    outcome: str
    occurrences: int = 1


MISSING = QuoteMatch(start=-1, end=-1, outcome="missing", occurrences=0)


def find_quote(text: str, quote: str, *, hint: str = "", min_ratio: float = 80.0) -> QuoteMatch:
    """Return the quote's place in `text`.

    Of several equal places the first is taken whose label (what stands before it in its sentence, such as `Step 3`) is
    named in `hint`, the reflection's explanation; when none is, the first, for the first error was asked for. `min_ratio`
    in 0..100 is rapidfuzz's `partial_ratio`; above 100 nothing is found fuzzily.
    """
    quote = quote.strip()
    if not quote:
        return MISSING
    places = _places(text, quote)
    if places:
        return _choose(text, places, "exact", hint)
    folded, origin = _normalise(text)
    needle, _ = _normalise(quote)
    if not needle:
        return MISSING
    places = [(origin[a], origin[b - 1] + 1) for a, b in _places(folded, needle)]
    if places:
        return _choose(text, places, "normalised", hint)
    if len(text) <= _FUZZY_LIMIT and len(needle) <= len(folded):
        found = fuzz.partial_ratio_alignment(needle, folded, score_cutoff=min_ratio)
        if found is not None and found.dest_end > found.dest_start:
            start, end = origin[found.dest_start], origin[found.dest_end - 1] + 1
            return QuoteMatch(start=start, end=end, outcome="fuzzy")
    return MISSING


def _places(text: str, quote: str) -> list[tuple[int, int]]:
    """Return where `quote` stands in `text`, whole words first: `2` does not stand in `25` if it stands alone elsewhere."""
    found = [(m.start(), m.start() + len(quote)) for m in re.finditer(f"(?={re.escape(quote)})", text)]
    whole = [(a, b) for a, b in found if not _cuts_a_word(text, a) and not _cuts_a_word(text, b)]
    return whole or found


def _cuts_a_word(text: str, at: int) -> bool:
    return 0 < at < len(text) and text[at - 1].isalnum() and text[at].isalnum()


def _normalise(text: str) -> tuple[str, list[int]]:
    """Return the text with case, width, quotes, dashes and spacing folded, and where each character came from."""
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


def _choose(text: str, places: list[tuple[int, int]], outcome: str, hint: str) -> QuoteMatch:
    named = [place for place in places if _is_named(text, place[0], hint)]
    start, end = (named or places)[0]
    return QuoteMatch(start=start, end=end, outcome=outcome, occurrences=len(places))


def _is_named(text: str, at: int, hint: str) -> bool:
    """Return whether the hint names the place by what stands before it in its sentence, such as `Step 3`."""
    label = text[sentence_start(text, at) : at].strip(" \t:.,;)-*#").casefold()
    return bool(label) and re.search(rf"(?<!\w){re.escape(label)}(?!\w)", hint.casefold()) is not None
