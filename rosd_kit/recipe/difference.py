"""What two resolved recipes differ in: each value that one of them has otherwise, and the layers that set it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from rosd_kit.recipe.render import to_values
from rosd_kit.recipe.resolve import Resolution


@dataclass(frozen=True)
class Side:
    """A value in one of two recipes as JSON, and the layer that set it; `value` is None where the recipe has no such option."""

    value: str | None
    origin: str = ""


@dataclass(frozen=True)
class Difference:
    """A dotted path at which two recipes differ."""

    path: str
    left: Side
    right: Side


def differences(left: Resolution, right: Resolution) -> list[Difference]:
    """Return every difference in the order of the recipes' fields."""
    one, other = leaves(to_values(left.recipe)), leaves(to_values(right.recipe))
    return [
        Difference(path, _side(path, one, left), _side(path, other, right))
        for path in paths_in_order(one, other)
        if one.get(path) != other.get(path)
    ]


def _side(path: str, values: Mapping[str, str], resolution: Resolution) -> Side:
    if path not in values:
        return Side(None)
    sources = resolution.provenance
    origin = next((sources[key] for key in sources if key == path or key.startswith(f"{path}.")), "default")
    return Side(values[path], origin)


def paths_in_order(*recipes: Mapping[str, str]) -> list[str]:
    """Return the paths of all these recipes, section by section, a component's options behind its name."""
    paths = list(dict.fromkeys(path for recipe in recipes for path in recipe))
    sections = list(dict.fromkeys(path.split(".")[0] for path in paths))
    return sorted(paths, key=lambda path: sections.index(path.split(".")[0]))


def leaves(value: object, path: str = "") -> dict[str, str]:
    """Return values as JSON by dotted path; a list is one value, except the terms of the objective."""
    items: Iterable[tuple[object, object]]
    if isinstance(value, dict):
        items = value.items()
    elif path == "objective" and isinstance(value, list):
        items = enumerate(value)
    else:
        return {path: json.dumps(value, ensure_ascii=False)}
    found: dict[str, str] = {}
    for key, item in items:
        found |= leaves(item, f"{path}.{key}" if path else str(key))
    return found
