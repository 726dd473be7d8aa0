"""Rows of data in one plain form, whatever reader they come from.

Readers differ in what they make of the same row: Arrow adds null for every key that another row has, turns 1 into 1.0 beside
2.5 and texts into timestamps, and keeps the order of keys of the first row. Here all become the same values. Knows no files.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Final, TypeGuard

from rosd_kit.errors import shortened

MAX_DEPTH = 100
#: Larger whole floats are not exact, so they are not written as integers.
_EXACT = 2.0**53
_SURROGATE = re.compile("[\ud800-\udfff]")
MISSING: Final = object()


class Row(dict[str, object]):
    """The values of a row by column, from `file`, where it is number `number` from 1; `fault` says why it cannot be used."""

    file: str = ""
    number: int = 0
    fault: str | None = None

    def __str__(self) -> str:
        """Return the row for an error message: its keys, and its values cut short."""
        source = f", row {self.number} of {self.file}" if self.file else ""
        return "{" + ", ".join(f"{key}: {shortened(value, 60)}" for key, value in self.items()) + "}" + source


def plain_row(values: Mapping[str, object], file: str = "", number: int = 0) -> Row:
    """Return a row in plain form: only text, int, float, bool, None, lists and dicts, and what has no such form as it is.

    Whole floats become integers, NaN null, dates and times their ISO text. Nested dicts lose their null keys; those of the row
    itself stay, because they name its columns.
    """
    row = Row()
    row.file, row.number = file, number
    for key, value in values.items():
        try:
            row[str(key)] = _plain(value, 0)
        except RecursionError:
            row[str(key)], row.fault = None, f"{key!r} is nested deeper than {MAX_DEPTH} levels."
    return row


def with_columns(row: Row, columns: Iterable[str]) -> Row:
    """Return the row with null for each column that it lacks."""
    for column in columns:
        row.setdefault(column, None)
    return row


def scrubbed(row: Mapping[str, object]) -> Mapping[str, object]:
    """Return the row with U+FFFD for each lone surrogate, which no file and no tokenizer takes."""
    return {str(_scrub(key)): _scrub(value) for key, value in row.items()}


def look_up(row: Mapping[str, object], path: Sequence[str]) -> object:
    """Return the value at a path of keys and list indices, or `MISSING`; a key may itself contain dots."""
    value: object = row
    rest = tuple(path)
    while rest:
        if isinstance(value, Mapping):
            length, key = _longest_key(value, rest)
            if not length:
                return MISSING
            value, rest = value[key], rest[length:]
        elif is_list(value) and rest[0].isdecimal() and len(rest[0]) <= 18 and int(rest[0]) < len(value):
            value, rest = value[int(rest[0])], rest[1:]
        else:
            return MISSING
    return value


def is_list(value: object) -> TypeGuard[Sequence[object]]:
    """Return whether a value is a list in a row."""
    return isinstance(value, Sequence) and not isinstance(value, (str, bytes))


def as_text(value: object) -> str | None:
    """Return a plain value as text; None for a list, a dict and whatever has no text."""
    return str(value) if isinstance(value, (str, int, float)) else None


def _longest_key(values: Mapping[str, object], path: Sequence[str]) -> tuple[int, str]:
    """Return how many parts of the path name one key, and that key in the spelling of the data; 0 if none does."""
    for length in range(len(path), 0, -1):
        name = ".".join(path[:length])
        if name in values:
            return length, name
        for key in values:
            if not (name.isascii() or key.isascii()) and unicodedata.normalize("NFC", key) == unicodedata.normalize(
                "NFC", name
            ):
                return length, key
    return 0, ""


def _plain(value: object, depth: int) -> object:
    if depth > MAX_DEPTH:
        raise RecursionError
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, float):
        return _plain_float(value)
    if isinstance(value, Mapping):
        pairs = ((str(key), _plain(item, depth + 1)) for key, item in value.items())
        return {key: item for key, item in pairs if item is not None}
    if isinstance(value, list) and value and all(_is_entry(item) for item in value):  # a map of Arrow
        return _plain(dict(value), depth)
    if isinstance(value, (list, tuple)):
        return [_plain(item, depth + 1) for item in value]
    if isinstance(value, Decimal):
        return _plain_decimal(value)
    if isinstance(value, (date, time)):
        return _iso(value)
    if isinstance(value, timedelta):
        return str(value)
    if hasattr(value, "tolist"):  # scalars and arrays of numpy, tensors
        return _plain(value.tolist(), depth + 1)
    return value


def _is_entry(item: object) -> bool:
    return isinstance(item, tuple) and len(item) == 2 and isinstance(item[0], str)


def _plain_float(value: float) -> float | int | None:
    if math.isnan(value):
        return None
    number = float(value)  # numpy's float64 is a float with another text
    return int(number) if number.is_integer() and abs(number) < _EXACT else number


def _plain_decimal(value: Decimal) -> float | int | str | None:
    if not value.is_finite():
        return _plain_float(float(value))
    if value == value.to_integral_value() and abs(value) < Decimal(10) ** 300:
        return int(value)
    return float(value) if Decimal(repr(float(value))) == value else format(value, "f")


def _iso(value: date | time) -> str | None:
    """Return ISO 8601; a time stamp at midnight without a zone is a date, because readers make one of the other."""
    if value != value:  # pandas' NaT
        return None
    text = value.isoformat()
    if isinstance(value, datetime) and value.tzinfo is None:
        text = re.sub(r"T00:00:00(?:\.0+)?$", "", text)
    return re.sub(r"\+00:00$", "Z", text)


def _scrub(value: object) -> object:
    if isinstance(value, str):
        return value if value.isascii() else _SURROGATE.sub("\ufffd", value)
    if isinstance(value, dict):
        return {_scrub(key): _scrub(item) for key, item in value.items()}
    return [_scrub(item) for item in value] if isinstance(value, list) else value
