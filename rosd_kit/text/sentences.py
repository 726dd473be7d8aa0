"""Finds the start of the sentence around a character."""

from __future__ import annotations

import re

#: A line break, or a full stop, question or exclamation mark (with closing quotes) followed by white space.
_BOUNDARY = re.compile(r"\n+\s*|(?<=[.!?。！？])[\"'”’)\]]*\s+")
_ABBREVIATION = re.compile(r"(?:\b(?:e\.g|i\.e|cf|vs|etc|approx|Fig|Eq|No|Dr|Mr|Mrs|Ms|St)|(?<![A-Za-z\d])[A-Z])\.$")


def sentence_start(text: str, position: int) -> int:
    """Return the start of the sentence (or line) around `position`; decimals, initials and `e.g.` do not end a sentence."""
    start = min(len(text) - len(text.lstrip()), position)
    # `position` itself may be the first character of a sentence, so a boundary may end right there.
    for boundary in _BOUNDARY.finditer(text):
        if boundary.end() > position:
            break
        before = text[: boundary.start()]
        if "\n" in boundary.group() or not _ABBREVIATION.search(before[-12:]):
            start = boundary.end()
    return start
