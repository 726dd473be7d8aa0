"""Where the sentence around a character begins."""

from __future__ import annotations

import re

#: A line break, or a full stop, question or exclamation mark (with closing quotes) that white space follows.
_BOUNDARY = re.compile(r"\n+\s*|(?<=[.!?。！？])[\"'”’)\]]*\s+")
_ABBREVIATION = re.compile(r"(?:\b(?:e\.g|i\.e|cf|vs|etc|approx|Fig|Eq|No|Dr|Mr|Mrs|Ms|St)|(?<![A-Za-z\d])[A-Z])\.$")


def sentence_start(text: str, position: int) -> int:
    """Return where the sentence (or line) that holds `position` begins; decimals, initials and `e.g.` end none."""
    start = re.match(r"\s*", text)
    begin = min(start.end() if start else 0, position)
    # `position` itself may be the first character of a sentence, so a boundary may end right there.
    for boundary in _BOUNDARY.finditer(text, 0):
        if boundary.end() > position:
            break
        before = text[: boundary.start()]
        if "\n" in boundary.group() or not _ABBREVIATION.search(before[-12:]):
            begin = boundary.end()
    return begin
