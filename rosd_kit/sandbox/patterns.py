"""Searches model output with regular expressions of users, some of which take exponential time, under a deadline."""

from __future__ import annotations

import re
from functools import lru_cache

from rosd_kit.sandbox.pool import WorkerPool

#: Seconds that one search may take.
DEADLINE = 2.0
_ESCAPED = re.compile(r"\\.", re.DOTALL)
#: Optional parts in a simple pattern; each may double the time.
_MAX_OPTIONAL = 4


class PatternTimeout(Exception):
    """A search did not end within `DEADLINE` seconds."""


def last_match(pattern: str, text: str, *, trusted: bool = False) -> str | None:
    """Return the last match of a pattern with one group, or None. Raises `PatternTimeout`.

    A pattern with more than one repetition runs in a worker process, because it may never end; `trusted` ones don't.
    """
    if not (trusted or is_simple(pattern)):
        return _call("find", pattern, text)
    matches = re.findall(pattern, text)
    return str(matches[-1]) if matches else None


def removed(pattern: str, text: str) -> str:
    """Return the text without the matches of a pattern. Raises `PatternTimeout`."""
    return re.sub(pattern, "", text) if is_simple(pattern) else _call("remove", pattern, text) or ""


def is_simple(pattern: str) -> bool:
    """Return whether a pattern is known to take at most quadratic time: it repeats one thing at most, and no group."""
    plain = _ESCAPED.sub("x", pattern)
    repeats = [index for index, sign in enumerate(plain) if sign in "*+{"]
    backreference = re.search(r"\\[1-9]|\(\?P=|\(\?\(", pattern) is not None
    optional = plain.count("?") - plain.count("(?")
    return len(repeats) <= 1 and all(plain[i - 1] != ")" for i in repeats) and not backreference and optional <= _MAX_OPTIONAL


def search(job: tuple[str, str, str]) -> str | None:
    """Carry out a search. Runs in a worker process."""
    kind, pattern, text = job
    return last_match(pattern, text, trusted=True) if kind == "find" else re.sub(pattern, "", text)


def _call(kind: str, pattern: str, text: str) -> str | None:
    (outcome,) = _pool().map([(kind, pattern, text)])
    if outcome.status != "ok":
        raise PatternTimeout(f"the pattern {pattern!r} did not end within {DEADLINE:g} s")
    return None if outcome.value is None else str(outcome.value)


@lru_cache(maxsize=1)
def _pool() -> WorkerPool:
    return WorkerPool(f"{__name__}:search", workers=1, deadline=DEADLINE, memory_mib=512)
