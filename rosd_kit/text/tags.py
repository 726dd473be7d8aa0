"""Reading `<tag>...</tag>` out of what a model wrote: thinking left out, the last complete pair, a status for every outcome."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass

_OPEN_THINK = re.compile(r"<\s*think(?:ing)?\s*>", re.IGNORECASE)
_CLOSE_THINK = re.compile(r"<\s*/\s*think(?:ing)?\s*>", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Tagged:
    """What a tag held. `status` is `ok`, `missing`, `unclosed` or `empty`; `text` is None unless `ok`."""

    text: str | None
    status: str


def strip_thinking(text: str) -> str:
    """Return the text after its last thinking block.

    A block that the chat template opened has only its closing tag in the text; a block that never closes hides everything.
    """
    closes = list(_CLOSE_THINK.finditer(text))
    rest = text[closes[-1].end() :] if closes else text
    opened = _OPEN_THINK.search(rest)
    return rest[: opened.start()] if opened else rest


def read_tag(text: str, tag: str) -> Tagged:
    """Return the content of the last complete pair of `tag`, stripped.

    `tag` is written with underscores (`error_quote`); case, and `-` or a space for `_`, make no difference. A pair runs
    from an opening tag to the next closing one, and starts at the last opening tag before it, so a stray tag hides nothing.
    """
    word = r"[\s_-]*".join(map(re.escape, tag.split("_")))
    marks = list(re.finditer(rf"<\s*(/?)\s*{word}\s*>", text, re.IGNORECASE))
    pairs = [(a.end(), b.start()) for a, b in itertools.pairwise(marks) if not a.group(1) and b.group(1)]
    if not pairs:
        opened = any(not mark.group(1) for mark in marks)
        return Tagged(text=None, status="unclosed" if opened else "missing")
    content = text[slice(*pairs[-1])].strip()
    return Tagged(text=content, status="ok") if content else Tagged(text=None, status="empty")
