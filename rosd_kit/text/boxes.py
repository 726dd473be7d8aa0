"""Reads `\\boxed{...}` and `\\fbox{...}` from a text, with any nesting of braces."""

from __future__ import annotations

import re
from dataclasses import dataclass

_MARK = re.compile(
    r"\\(?:boxed|fbox)(?![a-zA-Z])\s*+(?:(?P<open>\{)|(?P<bare>-?\d++(?:\.\d++)?|[A-Za-z](?![A-Za-z])))|\\.|[{}]", re.DOTALL
)
#: Text between two boxes that takes the first one back, or ends a sentence.
_RETRACTED = re.compile(
    r"(?i)\b(?:no|not|wait|actually|instead|rather|but|wrong|incorrect|mistake|hmm)\b|[.!?。！？]\s|\n[^\S\n]*+\n"
)
_JOINED = re.compile(r"(?i)\b(?:and|or)\b|[,;&]")
_OR = re.compile(r"(?i)\bor\b")
#: Longest text between two boxes that are one answer, in characters.
_BETWEEN = 70


@dataclass(frozen=True, kw_only=True)
class Box:
    """A box that does not lie in another one: its offsets, and its content, or None if it is not closed."""

    start: int
    end: int
    content: str | None


def find_boxes(text: str, max_length: int = 4000) -> list[Box]:
    """Return the outermost boxes in order. A box counts as not closed if its content is longer than `max_length` characters."""
    boxes: list[Box] = []
    opened: list[re.Match[str]] = []
    for mark in _MARK.finditer(text):
        if mark["bare"]:
            boxes.append(Box(start=mark.start(), end=mark.end(), content=mark["bare"]))
        elif mark["open"] or mark[0] == "{":
            opened.append(mark)
        elif mark[0] == "}" and opened:
            first = opened.pop()
            if first["open"] and mark.start() - first.end() <= max_length:
                while boxes and boxes[-1].start > first.start():
                    boxes.pop()
                boxes.append(Box(start=first.start(), end=mark.end(), content=text[first.end() : mark.start()]))
            elif first["open"]:
                boxes.append(Box(start=first.start(), end=first.end(), content=None))
    boxes += [Box(start=mark.start(), end=mark.end(), content=None) for mark in opened if mark["open"]]
    return sorted(boxes, key=lambda box: box.start)


def last_box(text: str, max_length: int = 4000) -> str | None:
    """Return the content of the last box, or None without a box. A box that is not closed counts as empty."""
    boxes = find_boxes(text, max_length)
    return boxes[-1].content or "" if boxes else None


def joined_boxes(text: str) -> tuple[list[str], bool]:
    """Return the contents of the boxes that end a text as one answer, "3 and 4" for example, and whether "or" joins any.

    Boxes belong together if little more than "and", "or" or a comma stands between them, in one sentence.
    """
    boxes = find_boxes(text)
    if not boxes or boxes[-1].content is None:
        return [], False
    contents, alternatives = [boxes[-1].content], False
    for first, second in zip(boxes[-2::-1], boxes[:0:-1], strict=True):
        between = text[first.end : second.start]
        if first.content is None or len(between) > _BETWEEN or _RETRACTED.search(between):
            break
        if len(between.strip()) > 2 and not _JOINED.search(between):
            break
        alternatives = alternatives or bool(_OR.search(between))
        if first.content != contents[0]:
            contents.insert(0, first.content)
    return contents, alternatives
