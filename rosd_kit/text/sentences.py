"""Finds where sentences begin, in Latin, CJK, Devanagari, Arabic and other scripts. Linear in the text.

It knows no language: a few common English abbreviations are all it has of a dictionary.
"""

from __future__ import annotations

import re
from bisect import bisect_right

_LINE = r"\n\r\x0b\x0c\x85\u2028\u2029"
_CLOSING = r"\"'”’»›)\]}」』】》〉〗〙）］｝＂＇*_`"
#: Marks that end a sentence even without a space after them: CJK, Devanagari, Arabic, Urdu, Ethiopic, Khmer, Burmese, Armenian.
_WIDE = "。！？．｡।॥؟۔።፧។៕။։"
#: Letters of scripts that are written without a space after a full stop.
_UNSPACED = r"\u0600-\u06ff\u0900-\u097f\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff"

_BOUNDARY = re.compile(
    rf"[{_LINE}]\s*+"
    rf"|(?P<mark>(?<![.!?…])[.!?…]++)[{_CLOSING}]*+\s++"
    rf"|(?P<wide>[{_WIDE}]++[!?]*+[{_CLOSING}]*+\s*+)"
    rf"|(?P<glued>(?<=[^\s.!?…])[.!?](?:[{_CLOSING}]*+(?=[{_UNSPACED}])|(?<=[a-z\d)\]][.!?])(?=[A-Z][a-z]++[ ,])))"
)
_ABBREVIATION = re.compile(
    r"(?:\b(?:e\.g|i\.e|cf|vs|etc|approx|ca|al|resp|viz|w\.r\.t|s\.t|a\.k\.a|[ap]\.m|Dr|Prof|Mr|Mrs|Ms|St|Jr|Sr|Ph\.D|Inc|Ltd)"
    r"|(?<![A-Za-z\d])[A-Z])\.$"
)
#: Abbreviations before a number: `No. 5`, `Eq. (3)`.
_NUMBERED = re.compile(r"\b(?:Nos?|Figs?|Eqs?|Secs?|Ch|Vol|pp?|Thm|Lem|Prop|Def|Cor|Ex|Ref|Tab|Art)\.$", re.IGNORECASE)
#: A whole "sentence" that only numbers what follows: `1.`, `- (a).`, `Step 2.`
_LABEL = re.compile(
    rf"[\s>#*_•({_CLOSING}-]*+(?:(?:step|case|part|problem|question|example|option)\s)?(?:\d{{1,3}}|[a-z]|[ivx]{{1,5}})\.[{_CLOSING}]*",
    re.IGNORECASE,
)


def sentence_start(text: str, position: int) -> int:
    """Return the start of the sentence (or line) around `position`.

    Decimals, abbreviations like `e.g.`, initials, list numbers and an ellipsis inside a sentence do not end one.
    """
    starts = sentence_starts(text)
    # `position` itself may be the first character of a sentence, so a boundary may end right there.
    return min(starts[max(0, bisect_right(starts, position) - 1)], position)


def sentence_starts(text: str) -> list[int]:
    """Return where each sentence or line of a text begins, in order; there is at least one."""
    starts = [len(text) - len(text.lstrip())]
    for boundary in _BOUNDARY.finditer(text):
        if boundary.end() > starts[-1] and _ends_sentence(text, boundary, starts[-1]):
            starts.append(boundary.end())
    return starts


def _ends_sentence(text: str, boundary: re.Match[str], start: int) -> bool:
    if any(character in boundary.group() for character in "\n\r\u2028\u2029\x85\x0b\x0c"):
        return True
    if boundary["wide"]:  # a full-width full stop between digits is a decimal point
        at = boundary.start()
        return not (boundary.group() == "．" and text[at - 1 : at].isdigit() and text[at + 1 : at + 2].isdigit())
    mark = boundary["mark"] or boundary["glued"]
    following = text[boundary.end() : boundary.end() + 1]
    if boundary["glued"] and following.isdigit() and text[boundary.start() - 1].isdigit():
        return False  # a decimal point between digits of another script
    if mark.endswith(("..", "…")):
        return following.isalpha() and not following.islower()
    if mark == "!":  # 5! = 120
        return not following or following not in "=+-*/^<>×·÷"
    if not mark.startswith("."):
        return True
    before = text[max(0, boundary.start() - 12) : boundary.start() + 1]
    if _ABBREVIATION.search(before) or (following and following in "0123456789(" and _NUMBERED.search(before)):
        return False
    return len(mark) > 1 or boundary.end() - start > 40 or not _LABEL.fullmatch(text, start, boundary.start() + 1)
