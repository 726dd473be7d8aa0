"""Reading `\\boxed{...}`: the last box of a text, however its braces are nested."""

from __future__ import annotations

import re

_BOX = re.compile(r"\\boxed\s*\{")


def last_box(text: str, most: int = 4000) -> str | None:
    """Return what the last box holds, empty where it is not closed within `most` characters; None where there is no box."""
    boxes = list(_BOX.finditer(text))
    if not boxes:
        return None
    start, depth = boxes[-1].end(), 1
    for place in range(start, min(len(text), start + most)):
        if text[place] in "{}" and text[place - 1] != "\\":
            depth += 1 if text[place] == "{" else -1
            if depth == 0:
                return text[start:place]
    return ""
