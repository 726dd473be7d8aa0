"""What is varied: `field=value,value` texts become axes, whose values are texts of overrides. Knows no recipe."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from rosd_kit.errors import RecipeError

_FIELD = re.compile(r"[A-Za-z_]\w*(\.\w+)*")
_RANGE = re.compile(r"(-?\d+)\.\.(-?\d+)")
_LONGEST_RANGE = 10_000
_BRACKETS = {"[": "]", "{": "}"}


@dataclass(frozen=True)
class Axis:
    """A field of the recipe and the values it takes, each as the text of an override's right side."""

    field: str
    values: tuple[str, ...]


def read_axis(word: str) -> Axis:
    """Return the axis that `field=value,value` stands for. Raises `RecipeError` for anything else."""
    field, equals, text = word.partition("=")
    if not equals or not _FIELD.fullmatch(field):
        raise RecipeError(f"{word!r} is not of the form field=value,value such as localizer=error_quote,full or seed=0..2")
    return make_axis(field, split_values(text, word))


def make_axis(field: str, values: Iterable[str]) -> Axis:
    """Return the axis with its ranges written out. Raises `RecipeError` for a value that is empty or written twice."""
    texts = [text for value in values for text in _expanded(field, value.strip())]
    if not texts or not all(texts):
        raise RecipeError(f"{field}: a value is missing. Write values with commas between them: {field}=one,other")
    if twice := next((text for text in texts if texts.count(text) > 1), None):
        raise RecipeError(f"{field}: the value {twice} is written twice. Write it once")
    return Axis(field, tuple(texts))


def split_values(text: str, where: str) -> list[str]:
    """Return what stands between commas, where brackets, braces and quotes keep theirs: `[0.9,0.99],[0.8,0.9]` is two."""
    parts, closing, quote = [""], "", ""
    for letter in text:
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "'\"":
            quote = letter
        elif letter in _BRACKETS:
            closing = _BRACKETS[letter] + closing
        elif closing and letter == closing[0]:
            closing = closing[1:]
        elif letter == "," and not closing:
            parts.append("")
            continue
        parts[-1] += letter
    if quote or closing:
        raise RecipeError(f"{where!r}: {quote or closing[0]} is missing. Close what was opened, or quote the value")
    return parts


def as_text(value: Any) -> str:
    """Return a value of a YAML file as the right side of an override."""
    return value if isinstance(value, str) else json.dumps(value)


def as_label(text: str) -> str:
    """Return a value as people read it: a part with options as `ema(rate=0.05)`."""
    if not text.startswith("{"):
        return text
    options = dict(yaml.safe_load(text))
    name = options.pop("name", "")
    return f"{name}({', '.join(f'{key}={value}' for key, value in options.items())})" if options else str(name)


def integers(axis: Axis) -> tuple[int, ...]:
    """Return the values of an axis of whole numbers. Raises `RecipeError` for others."""
    try:
        return tuple(int(value) for value in axis.values)
    except ValueError:
        raise RecipeError(
            f"{axis.field}: {', '.join(axis.values)} are not all whole numbers. Write {axis.field}=0..2"
        ) from None


def replaced(axes: Sequence[Axis], new: Axis) -> tuple[Axis, ...]:
    """Return the axes with the one of the same field replaced, or with the new one at the end."""
    if any(axis.field == new.field for axis in axes):
        return tuple(new if axis.field == new.field else axis for axis in axes)
    return (*axes, new)


def _expanded(field: str, value: str) -> list[str]:
    if not (found := _RANGE.fullmatch(value)):
        return [value]
    first, last = int(found[1]), int(found[2])
    if not first <= last < first + _LONGEST_RANGE:
        raise RecipeError(f"{field}: the range {value} is empty or longer than {_LONGEST_RANGE}. Write 0..2 for 0, 1 and 2")
    return [str(number) for number in range(first, last + 1)]
