"""Parses what a sweep varies: `field=value,value` becomes an axis whose values are override texts. Does not know recipes."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import pydantic

from rosd_kit.errors import RecipeError
from rosd_kit.options import Schedule
from rosd_kit.options.config import looks_like_schedule
from rosd_kit.recipe.sources import read_overrides

_FIELD = re.compile(r"[A-Za-z_]\w*(\.\w+)*")
_RANGE = re.compile(r"(-?[0-9]{1,18})\.\.(-?[0-9]{1,18})")
_MAX_RANGE = 10_000
_BRACKETS = {"[": "]", "{": "}"}


@dataclass(frozen=True)
class Axis:
    """A recipe field and the values it takes, each written like the right-hand side of an override."""

    field: str
    values: tuple[str, ...]


def parse_axis(word: str) -> Axis:
    """Return the axis that `field=value,value` describes. Raises `RecipeError` for any other form."""
    field, equals, text = word.partition("=")
    if not equals or not _FIELD.fullmatch(field):
        raise RecipeError(
            f"{word!r} does not have the form field=value,value. Examples: localizer=error_quote,full or seed=0..2"
        )
    return make_axis(field, split_values(text, word))


def make_axis(field: str, values: Iterable[str]) -> Axis:
    """Return the axis with its ranges expanded. Raises `RecipeError` for an empty or repeated value."""
    expanded = [text for value in values for text in _expand_range(field, value.strip())]
    if not expanded or not all(expanded):
        raise RecipeError(f"{field}: a value is missing. Separate values with commas: {field}=one,other")
    if repeated := next((text for text in expanded if expanded.count(text) > 1), None):
        raise RecipeError(f"{field}: the value {repeated} appears twice. Write it once")
    return Axis(field, tuple(expanded))


def split_values(text: str, where: str) -> list[str]:
    """Split at commas, except inside brackets, braces and quotes: `[0.9,0.99],[0.8,0.9]` has two values.

    Raises `RecipeError` for an unclosed bracket or quote; `where` is quoted in the message.
    """
    values, closing, quote = [""], "", ""
    for character in text:
        if quote:
            quote = "" if character == quote else quote
        elif character in "'\"":
            quote = character
        elif character in _BRACKETS:
            closing = _BRACKETS[character] + closing
        elif closing and character == closing[0]:
            closing = closing[1:]
        elif character == "," and not closing:
            values.append("")
            continue
        values[-1] += character
    if quote or closing:
        raise RecipeError(f"{where!r}: {quote or closing[0]} is missing. Close the bracket or quote, or quote the whole value")
    return values


def override_text(value: object) -> str:
    """Return a YAML value as the right-hand side of an override."""
    return value if isinstance(value, str) else json.dumps(value)


def label(value: str) -> str:
    """Return an axis value for display: `ema(rate=0.05)` for a component with options.

    A schedule becomes `1 -> 0.5 over 9 steps (linear)`.
    """
    parsed = _parsed(value) if value[:1] in _BRACKETS else value
    return label_of(parsed) if _has_mapping(parsed) else value


def label_of(value: object) -> str:
    """Return a value of a recipe for display, like `label`."""
    if schedule := _as_schedule(value):
        return str(schedule)
    if isinstance(value, Mapping) and "name" in value:
        options = [f"{key}={label_of(option)}" for key, option in value.items() if key != "name"]
        return f"{value['name']}({', '.join(options)})" if options else str(value["name"])
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{key}: {label_of(item)}' for key, item in value.items())}}}"
    if isinstance(value, list) and _has_mapping(value):
        return f"[{', '.join(map(label_of, value))}]"
    return str(value)


def is_same_value(text: str, other: str) -> bool:
    """Return whether two override texts mean the same value, as `1e-4` and `0.0001` do."""
    if text == other:
        return True
    one, two = _comparable(text), _comparable(other)
    return one == two and isinstance(one, bool) == isinstance(two, bool)


def _comparable(text: str) -> object:
    value = _parsed(text)
    schedule = _as_schedule(value)
    return schedule.written() if schedule else value


@functools.lru_cache(maxsize=4096)
def _parsed(text: str) -> object:
    """Return the value that an override text means, or the text where it is no value."""
    try:
        return read_overrides([f"value={text}"])[0][1]["value"]
    except RecipeError:
        return text


def _as_schedule(value: object) -> Schedule | None:
    if not looks_like_schedule(value):
        return None
    try:
        return Schedule.model_validate(value)
    except pydantic.ValidationError:
        return None


def _has_mapping(value: object) -> bool:
    return isinstance(value, Mapping) or (isinstance(value, list) and any(map(_has_mapping, value)))


def parse_integers(axis: Axis) -> tuple[int, ...]:
    """Return an axis's values as integers. Raises `RecipeError` for anything else."""
    try:
        return tuple(int(value) for value in axis.values)
    except ValueError:
        raise RecipeError(
            f"{axis.field}: {', '.join(axis.values)} are not all whole numbers. Write for example {axis.field}=0..2"
        ) from None


def replace_axis(axes: Sequence[Axis], new: Axis) -> tuple[Axis, ...]:
    """Replace the axis of the same field, or append the new one."""
    if any(axis.field == new.field for axis in axes):
        return tuple(new if axis.field == new.field else axis for axis in axes)
    return (*axes, new)


def _expand_range(field: str, value: str) -> list[str]:
    if not (match := _RANGE.fullmatch(value)):
        return [value]
    first, last = int(match[1]), int(match[2])
    if not first <= last < first + _MAX_RANGE:
        raise RecipeError(f"{field}: the range {value} is empty or longer than {_MAX_RANGE}. Write 0..2 for 0, 1 and 2")
    return [str(number) for number in range(first, last + 1)]
