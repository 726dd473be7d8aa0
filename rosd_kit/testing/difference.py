"""Compares the values that stages exchange, tensors included, and says where they differ."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

import torch


def difference(one: Any, other: Any, path: str = "") -> str:
    """Return where and how two values differ, or an empty string if they are equal. A NaN equals a NaN."""
    here = path or "the value"
    if type(one) is not type(other):
        return f"{here}: {_short(one)} is not {_short(other)}"
    if isinstance(one, torch.Tensor):
        same = one.shape == other.shape and torch.equal(torch.nan_to_num(one.detach()), torch.nan_to_num(other.detach()))
        return "" if same else f"{here}: {_short(one)} is not {_short(other)}"
    if dataclasses.is_dataclass(one) and not isinstance(one, type):
        fields = [(field.name, getattr(one, field.name), getattr(other, field.name)) for field in dataclasses.fields(one)]
        return _first(fields, lambda name: f"{path}.{name}")
    if isinstance(one, Mapping):
        if one.keys() != other.keys():
            return f"{here}: keys {sorted(map(str, one))} are not {sorted(map(str, other))}"
        return _first([(key, one[key], other[key]) for key in one], lambda key: f"{path}[{key!r}]")
    if isinstance(one, list | tuple):
        if len(one) != len(other):
            return f"{here}: {len(one)} values are not {len(other)}"
        return _first([(i, a, b) for i, (a, b) in enumerate(zip(one, other, strict=True))], lambda i: f"{path}[{i}]")
    if isinstance(one, float) and math.isnan(one) and math.isnan(other):
        return ""
    return "" if one == other else f"{here}: {_short(one)} is not {_short(other)}"


def _first(pairs: list[tuple[Any, Any, Any]], path_of: Callable[[Any], str]) -> str:
    """Return the first difference of these (key, one, other) triples."""
    return next((text for key, a, b in pairs if (text := difference(a, b, path_of(key)))), "")


def _short(value: object) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= 120 else text[:117] + "..."
