"""Finds what makes a text unfit for tokenizers, files and servers: lone surrogates, NUL, extreme length."""

from __future__ import annotations

import re

_SURROGATE = re.compile("[\ud800-\udfff]")
_UNFIT = re.compile("[\ud800-\udfff\x00]")


def why_no_text(text: str) -> str | None:
    """Return where a string holds a lone surrogate, to follow its name in a message, or None; no tokenizer takes one."""
    return _described(_SURROGATE.search(text))


def why_unfit(text: str, longest: int | None = None, option: str = "") -> str | None:
    """Return what is wrong with a text, to follow its name in a message, or None.

    `longest` is a number of characters, and `option` the name of what sets it.
    """
    if longest is not None and len(text) > longest:
        return f"has {len(text)} characters; at most {longest} are allowed{f' ({option})' if option else ''}"
    return _described(_UNFIT.search(text))


def _described(match: re.Match[str] | None) -> str | None:
    if match is None:
        return None
    kind = "NUL" if match[0] == "\0" else "a lone surrogate, half of a UTF-16 pair"
    return f"holds U+{ord(match[0]):04X}, {kind}, at character {match.start()}"
