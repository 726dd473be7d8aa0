"""Refuses plain YAML values that readers of YAML 1.1 and 1.2 take for different things, before anything is built from them.

PyYAML reads YAML 1.1, most other readers and people YAML 1.2: `010` is 8 or 10, `1:30` is 90 or a text, `no` is false or a
text.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import yaml

from rosd_kit.errors import RecipeError

#: Longest plain number, in characters.
_LONGEST_NUMBER = 400
_ANY_NUMBER = re.compile(r"[-+.0-9][-+.:_0-9a-fA-FxXoO]*")


def _whole(text: str) -> str:
    return str(int(text.replace("_", "")))


def _octal(text: str) -> str:
    digits = text.replace("_", "")
    return f"the octal number {int(digits, 8)}" if not set(digits) & set("89") else "a text"


def _sexagesimal(text: str) -> str:
    total = 0.0
    for part in text.lstrip("+-").replace("_", "").split(":"):
        total = total * 60 + float(part or 0)
    return f"the number {-total if text.startswith('-') else total:g}, counted in sixties"


_Readings = Callable[[str], tuple[str, str]]
#: What a plain value looks like, and its two readings.
_KINDS: tuple[tuple[re.Pattern[str], _Readings], ...] = (
    (re.compile("yes|on", re.IGNORECASE), lambda text: ("true", "a text")),
    (re.compile("no|off", re.IGNORECASE), lambda text: ("false", "a text")),
    (re.compile("<<"), lambda text: ("a mapping to merge", "a key like any other")),
    (re.compile(r"[-+]?0[0-9_]+"), lambda text: (_octal(text), f"the number {_whole(text)}")),
    (re.compile(r"[-+]?0o[0-7]+"), lambda text: ("a text", f"the number {int(text.replace('0o', ''), 8)}")),
    (re.compile(r"[-+]?0b[01_]+"), lambda text: (f"the number {int(text, 2)}", "a text")),
    (re.compile(r"[-+]?0x[0-9a-fA-F]*_[0-9a-fA-F_]*"), lambda text: (f"the number {int(text.replace('_', ''), 16)}", "a text")),
    (re.compile(r"[-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+(?:\.[0-9_]*)?"), lambda text: (_sexagesimal(text), "a text")),
    (
        re.compile(r"[-+]?(?=[0-9.]*_)[0-9][0-9_]*\.?[0-9_]*(?:[eE][-+]?[0-9]+)?"),
        lambda text: (f"the number {text.replace('_', '')}", "a text"),
    ),
    (
        re.compile(r"[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}(?:(?:[Tt]|[ \t]+)[0-9]{1,2}:[0-9]{2}(?::[0-9]{2}.{0,20})?)?"),
        lambda text: ("a date", "a text"),
    ),
    (
        re.compile(r"[-+]\.[0-9]+(?:[eE][-+]?[0-9]+)?|\.[0-9]+[eE][0-9]+"),
        lambda text: ("a text", f"the number {float(text):g}"),
    ),
    (re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+\.?[0-9]*)[eE][-+]?"), lambda text: ("a text", "an unfinished number")),
)


class UnambiguousDumper(yaml.SafeDumper):
    """Writes plain values as YAML, with quotes around every text that `refuse_ambiguous` would refuse without them."""


for _pattern, _ in _KINDS:  # a text that resolves to another tag is written in quotes
    UnambiguousDumper.add_implicit_resolver("!ambiguous", re.compile(rf"(?:{_pattern.pattern})\Z", _pattern.flags), None)


def refuse_ambiguous(text: str, where: str) -> None:
    """Raise `RecipeError` with both readings if a plain value, one without quotes, has two; or if it is a huge number."""
    if len(text) > _LONGEST_NUMBER and _ANY_NUMBER.fullmatch(text):
        raise RecipeError(
            f"{where}: {text[:20]}... is a number of {len(text)} characters; at most {_LONGEST_NUMBER} are read. "
            "Put it in quotes if it is a text."
        )
    for pattern, readings in _KINDS:
        if pattern.fullmatch(text):
            one, other = readings(text)
            raise RecipeError(
                f"{where}: {text} is {one} to readers of YAML 1.1, and {other} to those of YAML 1.2. "
                f'Write what you mean: "{text}" in quotes for the text, else {_plain_spelling(text, one, other)}.'
            )


def _plain_spelling(text: str, *readings: str) -> str:
    if readings[0] in ("true", "false"):
        return readings[0]
    numbers = [word for reading in readings for word in reading.replace(",", "").split() if word[:1].isdigit() or "." in word]
    return " or ".join(dict.fromkeys(numbers)) if numbers else "another value"
