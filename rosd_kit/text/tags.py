"""Reads `<tag>...</tag>` from model output: takes the last complete pair, and gives every outcome a status."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Tagged:
    """The content of a tag; `text` is None unless `status` is `ok`."""

    text: str | None
    status: Literal["ok", "missing", "unclosed", "empty"]


def read_tag(text: str, tag: str, aliases: Sequence[str] = ()) -> Tagged:
    """Return the content of the last complete pair of `tag`, stripped.

    `tag` is written with underscores (`error_quote`); in the text, case does not matter, and `-` or a space may replace
    `_`. A pair is a closing tag and the last opening tag before it, so a stray opening tag hides nothing.

    `aliases` are other names and misspellings of the tag. They count only if `tag` itself has no content; a pair may then open
    with one name and close with another.
    """
    tagged = _read([tag], text)
    if tagged.status == "ok" or not aliases:
        return tagged
    other = _read([tag, *aliases], text)
    return other if other.status == "ok" else tagged


def _read(names: Sequence[str], text: str) -> Tagged:
    words = "|".join(r"[\s_-]*+".join(map(re.escape, name.split("_"))) for name in names)  # possessive: linear in the text
    marks = list(re.finditer(rf"<\s*+(/?)\s*+(?:{words})\s*+>", text, re.IGNORECASE))
    pairs = [(a.end(), b.start()) for a, b in itertools.pairwise(marks) if not a.group(1) and b.group(1)]
    if not pairs:
        opened = any(not mark.group(1) for mark in marks)
        return Tagged(text=None, status="unclosed" if opened else "missing")
    content = text[slice(*pairs[-1])].strip()
    return Tagged(text=content, status="ok") if content else Tagged(text=None, status="empty")
