"""Compares the values that stages exchange, tensors included, and says where they differ."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping

import torch


def difference(one: object, other: object, path: str = "") -> str:
    """Return where and how two values differ, or an empty string if they are equal. A NaN equals a NaN."""
    here = path or "the value"
    if type(one) is not type(other):
        return f"{here}: {_short(one)} is not {_short(other)}"
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        same = one.shape == other.shape and torch.equal(torch.nan_to_num(one.detach()), torch.nan_to_num(other.detach()))
        return "" if same else f"{here}: {_short(one)} is not {_short(other)}"
    if dataclasses.is_dataclass(one) and not isinstance(one, type):
        names = [field.name for field in dataclasses.fields(one)]
        return _first((f"{path}.{name}", getattr(one, name), getattr(other, name)) for name in names)
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        if one.keys() != other.keys():
            return f"{here}: keys {sorted(map(str, one))} are not {sorted(map(str, other))}"
        return _first((f"{path}[{key!r}]", one[key], other[key]) for key in one)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        if len(one) != len(other):
            return f"{here}: {len(one)} values are not {len(other)}"
        return _first((f"{path}[{i}]", a, b) for i, (a, b) in enumerate(zip(one, other, strict=True)))
    if isinstance(one, float) and isinstance(other, float) and math.isnan(one) and math.isnan(other):
        return ""
    return "" if one == other else f"{here}: {_short(one)} is not {_short(other)}"


def _first(pairs: Iterable[tuple[str, object, object]]) -> str:
    """Return the first difference of these (path, one, other) triples."""
    return next((text for path, one, other in pairs if (text := difference(one, other, path))), "")


def _short(value: object) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= 120 else text[:117] + "..."
