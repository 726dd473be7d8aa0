"""Templates over a row: `{question}` is replaced by the row's field, `{choices|letters}` by what a filter makes of it.

    path     field names and list indices joined by dots: {answers.text.0}
    letters  a list as lines `A: first`, `B: second` ...; of a dict with `text` (and `label`) likewise
    letter   a number, counted from 0, as a letter
    json     the value as JSON
    lines    a list of texts, each on a line of its own
    last     what follows the last `####` of a text, the convention of GSM8K

Braces around anything else, and braces in data, are plain text. Nothing is evaluated.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rosd_kit.errors import did_you_mean

_FIELD = re.compile(r"\{([A-Za-z_][\w\- ]*(?:\.[\w\- ]+)*)(?:\|([a-z_]+))?\}")


class FieldError(ValueError):
    """A row has no such field, or its value is not what a filter needs."""


def check_fields(template: str) -> str:
    """Return the template, or raise `ValueError` naming a filter that does not exist."""
    for _, name in _FIELD.findall(template):
        if name and name not in _FILTERS:
            raise ValueError(f"unknown filter |{name}.{did_you_mean(name, _FILTERS)} Known: {', '.join(_FILTERS)}")
    return template


def fill_fields(template: str, row: Mapping[str, Any]) -> str:
    """Return the template with the row's values in it. Raises `FieldError` for what the row does not have."""

    def replaced(match: re.Match[str]) -> str:
        path, name = match.groups()
        return _FILTERS[name or "text"](_look_up(row, path), path)

    return _FIELD.sub(replaced, template)


def fill_optional(template: str, row: Mapping[str, Any]) -> str | None:
    """Return the filled template, or None where it is one field alone whose value is null."""
    alone = _FIELD.fullmatch(template)
    if alone and _look_up(row, alone.group(1)) is None:
        return None
    return fill_fields(template, row)


def _look_up(row: Mapping[str, Any], path: str) -> Any:
    value: Any = row
    for part in path.split("."):
        if isinstance(value, Mapping) and part in value:
            value = value[part]
        elif _listed(value) and part.isdecimal() and int(part) < len(value):
            value = value[int(part)]
        else:
            known = list(map(str, value)) if isinstance(value, Mapping) else []
            there = f"{len(value)} items" if _listed(value) else ", ".join(known) or type(value).__name__
            raise FieldError(f"{{{path}}}: there is no {part!r}.{did_you_mean(part, known)} The row has: {there}")
    return value


def _listed(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, (str, bytes))


def _text(value: Any, path: str) -> str:
    if value is None or isinstance(value, (Mapping, bytes)) or _listed(value):
        raise FieldError(f"{{{path}}} is {_shown(value)}, not a text. Name what is inside it, or use a filter such as |json.")
    return str(value)


def _letters(value: Any, path: str) -> str:
    labels: Any = None
    if isinstance(value, Mapping):
        labels, value = value.get("label"), value.get("text")
    if not _listed(value):
        raise FieldError(f"{{{path}|letters}} needs a list, or a dict with a list `text`; it is {_shown(value)}.")
    named = labels if _listed(labels) and len(labels) == len(value) else [_letter(i, path) for i in range(len(value))]
    return "\n".join(f"{label}: {_text(item, path)}" for label, item in zip(named, value, strict=True))


def _letter(value: Any, path: str) -> str:
    if isinstance(value, str) and value.isdecimal():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 26:
        raise FieldError(f"{{{path}|letter}} needs a number from 0 to 25; it is {_shown(value)}.")
    return chr(ord("A") + value)


def _json(value: Any, path: str) -> str:
    try:
        return json.dumps(value, ensure_ascii=False)
    except TypeError as error:
        raise FieldError(f"{{{path}|json}}: {error}") from error


def _lines(value: Any, path: str) -> str:
    if not _listed(value):
        raise FieldError(f"{{{path}|lines}} needs a list; it is {_shown(value)}.")
    return "\n".join(_text(item, path) for item in value)


def _last(value: Any, path: str) -> str:
    _, mark, answer = _text(value, path).rpartition("####")
    if not mark:
        raise FieldError(f"{{{path}|last}} needs a text with ####; it is {_shown(value)}.")
    return answer.strip()


def _shown(value: Any) -> str:
    told = repr(value)
    return told if len(told) <= 80 else f"{told[:80]} ..."


_FILTERS: dict[str, Callable[[Any, str], str]] = {
    "text": _text,
    "letters": _letters,
    "letter": _letter,
    "json": _json,
    "lines": _lines,
    "last": _last,
}
