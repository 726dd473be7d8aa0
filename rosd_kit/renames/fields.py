"""Lets values with renamed fields be built and read by the old names."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import TypeVar

from rosd_kit.renames.entry import Renamed
from rosd_kit.renames.options import FIELDS, METRICS
from rosd_kit.renames.warnings import warn

T = TypeVar("T")


def with_current_metrics(record: Mapping[str, T]) -> dict[str, T]:
    """Return a record of `metrics.jsonl` with the current keys."""
    return {METRICS[key].new if key in METRICS else key: value for key, value in record.items()}


def accepts_old_fields(known_as: str) -> Callable[[type[T]], type[T]]:
    """Let a dataclass be constructed and read with the old names of its fields; `known_as` is its name in `FIELDS`."""
    prefix = f"{known_as}."
    renamed = {old.removeprefix(prefix): entry for old, entry in FIELDS.items() if old.startswith(prefix)}

    def accept(cls: type[T]) -> type[T]:
        construct = cls.__init__

        @functools.wraps(construct)
        def __init__(self: T, *values: object, **fields: object) -> None:
            for old in fields.keys() & renamed.keys():
                warn(renamed[old])
                fields[renamed[old].new_name] = renamed[old].current(fields.pop(old))
            construct(self, *values, **fields)

        cls.__init__ = __init__  # type: ignore[assignment,method-assign]
        for old, entry in renamed.items():
            setattr(cls, old, _old_field(entry))
        return cls

    return accept


def _old_field(entry: Renamed) -> property:
    def read(self: object) -> object:
        warn(entry)
        return entry.former(getattr(self, entry.new_name))

    return property(read, doc=str(entry))
