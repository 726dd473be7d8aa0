"""Reads the last `\\boxed{...}` of a text, with any nesting of braces."""

from __future__ import annotations

import re

_BOX = re.compile(r"\\boxed\s*\{")


def last_box(text: str, max_length: int = 4000) -> str | None:
    """Return the content of the last box, or None without a box.

    A box that is not closed within `max_length` characters counts as empty.
    """
    boxes = list(_BOX.finditer(text))
    if not boxes:
        return None
    start, depth = boxes[-1].end(), 1
    for index in range(start, min(len(text), start + max_length)):
        if text[index] in "{}" and text[index - 1] != "\\":
            depth += 1 if text[index] == "{" else -1
            if depth == 0:
                return text[start:index]
    return ""
