"""Fills templates from a row: `{question}` is replaced by a field, `{choices|letters}` by a field after a filter.

    path     field names and list indices joined by dots: {answers.text.0}
    letters  a list as lines `A: first`, `B: second` ...; also a dict with `text` (and `label`)
    letter   a number, counted from 0, as a letter
    json     the value as JSON
    lines    a list of texts, one per line
    last     the text after the last `####`, the convention of GSM8K

Braces around anything else, and braces in data, are plain text. Nothing is evaluated.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeGuard

from rosd_kit.errors import did_you_mean, shortened

_FIELD = re.compile(r"\{([A-Za-z_][\w\- ]*(?:\.[\w\- ]+)*)(?:\|([a-z_]+))?\}")


class FieldError(ValueError):
    """A row lacks a field, or its value does not fit the filter."""


def check_fields(template: str) -> str:
    """Return the template. Raises `ValueError` if it names an unknown filter."""
    for _, name in _FIELD.findall(template):
        if name and name not in _FILTERS:
            raise ValueError(f"unknown filter |{name}.{did_you_mean(name, _FILTERS)} Known: {', '.join(_FILTERS)}")
    return template


def fill_fields(template: str, row: Mapping[str, Any]) -> str:
    """Fill the template with the row's values. Raises `FieldError` if a field is missing or does not fit its filter."""

    def value_of(match: re.Match[str]) -> str:
        path, name = match.groups()
        return _FILTERS[name or "text"](_look_up(row, path), path)

    return _FIELD.sub(value_of, template)


def fill_optional(template: str, row: Mapping[str, Any]) -> str | None:
    """Fill the template, or return None if it is a single field whose value is null."""
    field = _FIELD.fullmatch(template)
    if field and _look_up(row, field.group(1)) is None:
        return None
    return fill_fields(template, row)


def _look_up(row: Mapping[str, Any], path: str) -> object:
    value: object = row
    for part in path.split("."):
        if isinstance(value, Mapping) and part in value:
            value = value[part]
        elif _is_list(value) and part.isdecimal() and int(part) < len(value):
            value = value[int(part)]
        else:
            known = list(map(str, value)) if isinstance(value, Mapping) else []
            available = f"{len(value)} items" if _is_list(value) else ", ".join(known) or type(value).__name__
            raise FieldError(f"{{{path}}}: there is no {part!r}.{did_you_mean(part, known)} The row has: {available}")
    return value


def _is_list(value: object) -> TypeGuard[Sequence[Any]]:
    return isinstance(value, Sequence) and not isinstance(value, (str, bytes))


def _text(value: object, path: str) -> str:
    if value is None or isinstance(value, (Mapping, bytes)) or _is_list(value):
        raise FieldError(f"{{{path}}} is {shortened(value)}, not a text. Name a field inside it, or use a filter like |json.")
    return str(value)


def _letters(value: object, path: str) -> str:
    labels: object = None
    if isinstance(value, Mapping):
        labels, value = value.get("label"), value.get("text")
    if not _is_list(value):
        raise FieldError(f"{{{path}|letters}} needs a list, or a dict with a list `text`; it is {shortened(value)}.")
    names = labels if _is_list(labels) and len(labels) == len(value) else [_letter(i, path) for i in range(len(value))]
    return "\n".join(f"{label}: {_text(item, path)}" for label, item in zip(names, value, strict=True))


def _letter(value: object, path: str) -> str:
    if isinstance(value, str) and value.isdecimal():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 26:
        raise FieldError(f"{{{path}|letter}} needs a number from 0 to 25; it is {shortened(value)}.")
    return chr(ord("A") + value)


def _json(value: object, path: str) -> str:
    try:
        return json.dumps(value, ensure_ascii=False)
    except TypeError as error:
        raise FieldError(f"{{{path}|json}}: {error}") from error


def _lines(value: object, path: str) -> str:
    if not _is_list(value):
        raise FieldError(f"{{{path}|lines}} needs a list; it is {shortened(value)}.")
    return "\n".join(_text(item, path) for item in value)


def _last(value: object, path: str) -> str:
    _, mark, answer = _text(value, path).rpartition("####")
    if not mark:
        raise FieldError(f"{{{path}|last}} needs a text with ####; it is {shortened(value)}.")
    return answer.strip()


#: Each filter takes a value and its path, which error messages name.
_FILTERS: dict[str, Callable[[object, str], str]] = {
    "text": _text,
    "letters": _letters,
    "letter": _letter,
    "json": _json,
    "lines": _lines,
    "last": _last,
}
