"""Reads metrics, evaluations and samples of a run, whatever has happened to the files: tells damaged lines from whole ones."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

from pydantic import BaseModel, ValidationError

from rosd_kit.evaluation.results import SuiteResult
from rosd_kit.renames import with_current_metrics
from rosd_kit.types import JsonObject

METRICS, EVALUATIONS = "metrics.jsonl", "evaluations.jsonl"
_SAMPLES = "step-"
_MOST_NUMBERS = 5


class _Sample(BaseModel):
    """What must hold of a rollout's record, besides what the page shows as it is."""

    response: str = ""
    token_ids: list[int] | None = None
    token_spans: list[tuple[int, int]] | None = None
    idea: str | None = None
    quote: str | None = None
    judged: dict[str, object] | None = None
    true_error: tuple[int, int] | None = None
    located_at: int | None = None


@dataclass(frozen=True, kw_only=True)
class DamagedLine:
    """A line that is no record: its number from 1, its bytes, and what is wrong with it."""

    number: int
    content: bytes
    why: str


@dataclass(frozen=True, kw_only=True)
class Records:
    """The records of a file in its order, by their current metric names, and the lines that are none.

    A last line without an end, which a crash cut off, is in neither.
    """

    whole: list[JsonObject] = field(default_factory=list)
    damaged: list[DamagedLine] = field(default_factory=list)

    def without_repeats(self, last_step: int) -> list[JsonObject]:
        """Return the first record of each step up to `last_step`."""
        first: dict[int, JsonObject] = {}
        for record in self.whole:
            first.setdefault(record["step"], record)
        return [record for step, record in first.items() if step <= last_step]


def read_records(file: Path) -> Records:
    """Read a file of records, one JSON object with a `step` per line; without the file there are none."""
    if not file.is_file():
        return Records()
    records = Records()
    lines = file.read_bytes().removeprefix(b"\xef\xbb\xbf").split(b"\n")
    for number, line in enumerate(lines[:-1], start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line.decode("utf-8", "surrogatepass"))
            _check(record, file.name)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            why = "it is nested too deep" if isinstance(error, RecursionError) else str(error) or type(error).__name__
            records.damaged.append(DamagedLine(number=number, content=line, why=why))
        else:
            records.whole.append(with_current_metrics(record))
    return records


def in_words(numbers: Iterable[int]) -> str:
    """Return numbers as ranges: "1-3, 7", at most five of them."""
    ranges = []
    for _, run in groupby(enumerate(sorted(numbers)), key=lambda pair: pair[1] - pair[0]):
        members = [number for _, number in run]
        ranges.append(str(members[0]) if len(members) == 1 else f"{members[0]}-{members[-1]}")
    more = len(ranges) - _MOST_NUMBERS
    return ", ".join(ranges[:_MOST_NUMBERS]) + (f" and {more} more" if more > 0 else "")


def _check(record: object, name: str) -> None:
    """Raise if a value is no record of the file of this name."""
    if not isinstance(record, dict):
        raise ValueError("it is not an object")
    step = record.get("step")
    if not isinstance(step, int) or isinstance(step, bool) or step < 0:
        raise ValueError(f"its step is {step!r}" if "step" in record else "it has no step")
    if name == METRICS:
        _check_numbers(record)
    if name.startswith(_SAMPLES):
        try:
            _Sample.model_validate(record)
        except ValidationError as error:
            first = error.errors()[0]
            raise ValueError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from error
    if name == EVALUATIONS:
        if not isinstance(record.get("results"), list):
            raise ValueError("it has no results")
        for result in record["results"]:
            SuiteResult.from_json(result)


def _check_numbers(record: Mapping[str, object]) -> None:
    for key, value in record.items():
        if isinstance(value, (list, dict, str)) and "/" in key:
            raise ValueError(f"{key} is no number")
