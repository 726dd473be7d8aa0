"""Fills templates from a row: `{question}` is replaced by a field, `{choices|letters}` by a field after a filter.

    letters  a list as lines `A: first`, `B: second` ...; also a dict with `text` (and `label`), or a list of such dicts
    letter   a number, counted from 0, as a letter
    json     the value as JSON, keys in alphabetical order
    lines    a list of texts, one per line
    last     the text after the last `####`, the convention of GSM8K

`placeholders.py` says what counts as a field. Braces in data are plain text. Nothing is evaluated.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping

from rosd_kit.data.placeholders import Placeholder, split_template
from rosd_kit.data.rows import MISSING, as_text, is_list, look_up
from rosd_kit.errors import did_you_mean, shortened


class FieldError(ValueError):
    """A row lacks a field, or its value does not fit the filter."""


def check_fields(template: str) -> str:
    """Return the template. Raises `ValueError` if it names an unknown filter."""
    for part in split_template(template, ()):
        if isinstance(part, Placeholder):
            _filter_of(part)
    return template


def fill_fields(template: str, row: Mapping[str, object]) -> str:
    """Fill the template with the row's values. Raises `FieldError` if a field is missing or does not fit its filter."""
    parts = split_template(template, row.keys())
    return "".join(part if isinstance(part, str) else _filled(part, row) for part in parts)


def fill_optional(template: str, row: Mapping[str, object]) -> str | None:
    """Fill the template, or return None if it is a single field without a value, or if the result is empty."""
    field = _only_field(template, row)
    if field is not None and look_up(row, field.path) in (None, MISSING):
        return None
    return fill_fields(template, row) or None


def missing_field(template: str, row: Mapping[str, object]) -> str | None:
    """Return why a row does not have the template's only field, or None if it does or if there are several fields.

    `fill_optional` takes such a row; where no row has the field, its name is wrong.
    """
    field = _only_field(template, row)
    return _no_such_field(field, row) if field is not None and look_up(row, field.path) is MISSING else None


def _only_field(template: str, row: Mapping[str, object]) -> Placeholder | None:
    before, *rest = split_template(template, row.keys())
    return rest[0] if before == "" and len(rest) == 2 and rest[1] == "" and isinstance(rest[0], Placeholder) else None


def _filled(field: Placeholder, row: Mapping[str, object]) -> str:
    value = look_up(row, field.path)
    if value is MISSING:
        raise FieldError(_no_such_field(field, row))
    return _filter_of(field)(value, field.written.removesuffix(f"|{field.filter}"))


def _filter_of(field: Placeholder) -> Callable[[object, str], str]:
    if field.filter not in _FILTERS:
        near = did_you_mean(field.filter, _FILTERS)
        raise FieldError(f"unknown filter |{field.filter}.{near} Known: {', '.join(_FILTERS)}")
    return _FILTERS[field.filter]


def _no_such_field(field: Placeholder, row: Mapping[str, object]) -> str:
    """Explain at which part of its path a field ends, what there is instead, and how to write the braces as text."""
    known = next(length for length in range(len(field.path)) if look_up(row, field.path[: length + 1]) is MISSING)
    value, part = look_up(row, field.path[:known]), field.path[known]
    names = list(map(str, value)) if isinstance(value, Mapping) else []
    available = f"{len(value)} items" if is_list(value) else ", ".join(names) or type(value).__name__
    near = did_you_mean(part, names) or did_you_mean(part.strip().casefold(), names)
    if len(names) == 1 and (mark := next((mark for mark in ";\t|" if mark in names[0]), None)):
        near = f" Its columns seem to be separated by {mark!r}: rows of .csv need commas, those of .tsv tabs."
    written = f"{{{field.written}}}"
    return f"{written}: there is no {part!r}.{near} The row has: {available}. For the text {written} itself write \\{written}"


def _text(value: object, path: str) -> str:
    if (text := as_text(value)) is None:
        raise FieldError(f"{{{path}}} is {shortened(value)}, not a text. Name a field inside it, or use a filter like |json.")
    return text


def _letters(value: object, path: str) -> str:
    labels: object = None
    if isinstance(value, Mapping):
        labels, value = value.get("label"), value.get("text")
    choices = [item for item in value if isinstance(item, Mapping) and "text" in item] if is_list(value) else []
    if choices and is_list(value) and len(choices) == len(value):
        named = all(choice.get("label") is not None for choice in choices)
        labels, value = [choice["label"] for choice in choices] if named else None, [choice["text"] for choice in choices]
    if not is_list(value):
        raise FieldError(f"{{{path}|letters}} needs a list, or a dict with a list `text`; it is {shortened(value)}.")
    names = labels if is_list(labels) and len(labels) == len(value) else [_letter(i, path) for i in range(len(value))]
    return "\n".join(f"{label}: {_text(item, path)}" for label, item in zip(names, value, strict=True))


def _letter(value: object, path: str) -> str:
    if isinstance(value, str) and value.isdecimal() and len(value) < 3:
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 26:
        raise FieldError(f"{{{path}|letter}} needs a number from 0 to 25; it is {shortened(value)}.")
    return chr(ord("A") + value)


def _json(value: object, path: str) -> str:
    try:
        return json.dumps(value, ensure_ascii=False, sort_keys=True, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise FieldError(f"{{{path}|json}}: {error}") from error


def _lines(value: object, path: str) -> str:
    if not is_list(value):
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
