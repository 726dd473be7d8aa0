"""Undoes what Arrow adds to numbers of single and half precision: 0.1 would read 0.10000000149011612."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow

Shorten = Callable[[Any], object]  # takes what Arrow made of a cell, by its column's type


def shortener(schema: pyarrow.Schema) -> Callable[[Mapping[str, object]], Mapping[str, object]]:
    """Return a function that gives a row of an Arrow schema the shortest numbers that its columns can tell apart."""
    by_name = {field.name: shorten for field in schema if (shorten := _of_type(field.type)) is not None}
    if not by_name:
        return lambda row: row
    return lambda row: {key: by_name[key](value) if key in by_name else value for key, value in row.items()}


def _of_type(kind: pyarrow.DataType) -> Shorten | None:
    """Return what shortens values of an Arrow type, or None if they are as short as they can be."""
    import pyarrow.types as types

    if types.is_float32(kind) or types.is_float16(kind):
        return _float32 if types.is_float32(kind) else _float16
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        item = _of_type(kind.value_type)
        return None if item is None else lambda values: None if values is None else [item(value) for value in values]
    if types.is_struct(kind):
        fields = {field.name: shorten for field in kind if (shorten := _of_type(field.type)) is not None}
        if fields:
            return lambda value: None if value is None else {k: fields[k](v) if k in fields else v for k, v in value.items()}
    return None


def _float32(value: float | None) -> float | None:
    import numpy as np

    return None if value is None else float(str(np.float32(value)))


def _float16(value: float | None) -> float | None:
    import numpy as np

    return None if value is None else float(str(np.float16(value)))
