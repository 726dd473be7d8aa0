"""Finds the placeholders of a field template: what between braces names a column, and what is plain text.

    {question}            a column; letters of any script, digits, `_`, `-` and single spaces
    {answers.text.0}      keys and list indices joined by dots; a column that is named with dots comes first
    {'any "name" at {all}'.0}  a part between single or double quotes is taken as it is; a doubled quote stands for one
    {choices|letters}     a filter after the path
    \\{question}           the text `{question}`

A column's name may stand between braces whatever its characters are (`{question?}`, `{1}`). Other braces are plain text as long
as they do not look like a name or like a misspelt column: `{}`, `{1}`, `{"a": 2}`.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache

_QUOTED = r""""(?:[^"\n]|"")*"|'(?:[^'\n]|'')*'"""
_BARE = r"""[^{}|.\n"']+"""
_PART = re.compile(f"{_QUOTED}|{_BARE}")
_PATH = rf"(?:{_QUOTED}|{_BARE})(?:\.(?:{_QUOTED}|{_BARE}))*"
_GROUP = re.compile(rf"(?<!\\)(\\*)\{{(?:({_PATH})(?:\|([a-z_]+))?|([^{{}}\n]*))\}}")
#: How alike a text between braces and a column must be for the text to count as misspelt.
_MISSPELT = 0.8
#: Shorter texts between braces are more likely mathematics.
_SHORTEST = 3


@dataclass(frozen=True, kw_only=True)
class Placeholder:
    """A field to fill in: its path, the filter after `|`, and how the template writes it between braces."""

    path: tuple[str, ...]
    filter: str
    written: str


def split_template(template: str, columns: Iterable[str]) -> tuple[str | Placeholder, ...]:
    """Return the template's plain texts and placeholders in order; `columns` decide about unusual names."""
    return _split(template, tuple(columns))


@lru_cache(maxsize=256)  # every row of a table has the same columns
def _split(template: str, columns: tuple[str, ...]) -> tuple[str | Placeholder, ...]:
    return tuple(_parts(template, columns))


def _parts(template: str, columns: Collection[str]) -> Iterator[str | Placeholder]:
    end = 0
    for match in _GROUP.finditer(template):
        slashes, content = match[1], match[0][len(match[1]) + 1 : -1]
        field = _read(match, content, columns)
        escaped = len(slashes) % 2 == 1
        if escaped and content and not content.endswith("\\"):
            yield template[end : match.start()] + slashes[:-1] + f"{{{content}}}"
        elif field is not None and not escaped:
            yield template[end : match.start()] + slashes
            yield field
        else:
            continue
        end = match.end()
    yield template[end:]


def _read(match: re.Match[str], content: str, columns: Collection[str]) -> Placeholder | None:
    """Return the field that a group names, or None if it is plain text."""
    if content in columns:
        return Placeholder(path=(content,), filter="text", written=content)
    if match[2] is None:
        return Placeholder(path=(content,), filter="text", written=content) if _misspelt(content, columns) else None
    parts = _PART.findall(match[2])
    path, quoted = tuple(map(_unquoted, parts)), any(part[0] in "\"'" for part in parts)
    first = [".".join(path[:length]) for length in range(1, len(path) + 1)]
    if quoted or _is_name(path) or any(name in columns for name in first) or _misspelt(match[2], columns):
        return Placeholder(path=path, filter=match[3] or "text", written=content)
    return None


def _unquoted(part: str) -> str:
    quote = part[0]
    return part[1:-1].replace(quote * 2, quote) if quote in "\"'" else part


def _is_name(path: tuple[str, ...]) -> bool:
    words = [part.replace("-", "_").replace(" ", "_") for part in path]
    return path[0][0] not in " -" and words[0].isidentifier() and all(f"_{word}".isidentifier() for word in words)


def _misspelt(content: str, columns: Collection[str]) -> bool:
    """Return whether the text between braces is nearly a column: with spaces around it, another case, or few other letters."""
    word = content.strip()
    if word.isdecimal() or len(word) < _SHORTEST:
        return False
    names = {column.casefold() for column in columns}
    return bool(difflib.get_close_matches(word.casefold(), names, n=1, cutoff=_MISSPELT)) or word.casefold() in names
