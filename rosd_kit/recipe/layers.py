"""Merges the layers of a recipe and records which layer set each value.

Order: defaults < profile < extended recipes < recipe < command line. It knows which fields are slots, because a slot that
changes its component drops the options of the old one. It knows no component and checks only the form.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TypeAlias

from rosd_kit.contracts import SLOTS
from rosd_kit.errors import RecipeError
from rosd_kit.options.config import looks_like_schedule
from rosd_kit.recipe.source_file import SourceFile
from rosd_kit.types import JsonObject

DEFAULTS: JsonObject = {
    "gate": "all",
    "demonstration": "none",
    "reflector": "none",
    "localizer": "full",
    "context": "none",
    "teacher": "frozen",
    "support": "full",
    "divergence": "jsd",
    "correction": "none",
    "objective": "distill",
}
"""Slots that a recipe may leave out; task, verifier and rollout come from the profile."""

#: Digits of an index into a list, which is turned into a number only if it has no more: a longer one is beyond every list.
_LONGEST_INDEX = 6


@dataclass(frozen=True)
class Leaf:
    """A value and the layer that set it."""

    value: object
    source: str
    file: SourceFile | None = None
    """The file that wrote it; None for defaults, shipped files, the command line and Python."""


Node: TypeAlias = "dict[str, Node] | list[Node] | Leaf"
Tree: TypeAlias = dict[str, Node]


def as_tree(content: Mapping[str, object], source: str, file: SourceFile | None = None) -> Tree:
    """Return one layer with slots in long form and every value marked with its source."""
    by = Leaf(None, source, file)
    return {key: _slot(key, value, by) if key in SLOTS else _node(value, by) for key, value in content.items()}


def overlay(below: Tree, above: Tree) -> Tree:
    """Return `below` overlaid with `above`: slots by `overlay_component`, mappings key by key, other values replaced."""
    merged = dict(below)
    for key, node in above.items():
        if key == "objective":
            merged[key] = _overlay_terms(merged.get(key, []), node)
        elif key in SLOTS:
            merged[key] = overlay_component(merged.get(key, {}), node)
        else:
            merged[key] = _overlay_node(merged.get(key), node)
    return merged


def overlay_component(below: Node, above: Node) -> Tree:
    """Return a slot's name and options after a higher layer; a new name drops the options of lower layers."""
    assert isinstance(below, dict) and isinstance(above, dict), "as_tree writes components in long form"
    if "name" in above and "name" in below and plain(above["name"]) != plain(below["name"]):
        return above
    merged = _overlay_node(below, above)
    assert isinstance(merged, dict)
    return merged


def plain(node: Node) -> object:
    """Return the values of a tree without their sources."""
    if isinstance(node, Leaf):
        return node.value
    if isinstance(node, dict):
        return {key: plain(child) for key, child in node.items()}
    return [plain(child) for child in node]


def plain_values(tree: Tree) -> JsonObject:
    """Return the values of a whole recipe without their sources."""
    return {key: plain(child) for key, child in tree.items()}


def is_index(key: str) -> bool:
    """Return whether a key counts the terms of `objective`: `0`, `1` and so on."""
    return key.isascii() and key.isdigit() and len(key) <= _LONGEST_INDEX


def leaves_of(node: Node, path: str = "") -> dict[str, Leaf]:
    """Return every leaf by its dotted path; items of `objective` count from 0."""
    if isinstance(node, Leaf):
        return {path: node}
    items = node.items() if isinstance(node, dict) else ((str(i), item) for i, item in enumerate(node))
    found: dict[str, Leaf] = {}
    for key, child in items:
        found |= leaves_of(child, f"{path}.{key}" if path else key)
    return found


def _slot(kind: str, value: object, by: Leaf) -> Node:
    if kind == "objective" and isinstance(value, list):
        return [_component(f"{kind}.{i}", term, by) for i, term in enumerate(value)]
    return _component(kind, value, by)


def _component(path: str, value: object, by: Leaf) -> Tree:
    """Return a component in long form; its values come from where `by` does."""
    if isinstance(value, str):
        return {"name": replace(by, value=value)}
    if isinstance(value, Mapping):
        return {key: _node(item, by) for key, item in value.items()}
    hint = "write `none`" if value is None else "write a name or {name: ..., option: ...}"
    raise RecipeError(f"{path}: {value!r} (from {by.source}) is neither a name nor a mapping; {hint}")


def _node(value: object, by: Leaf) -> Node:
    if isinstance(value, Mapping):
        return {key: _node(item, by) for key, item in value.items()}
    return replace(by, value=value)


def _overlay_node(below: Node | None, above: Node) -> Node:
    if not (isinstance(below, dict) and isinstance(above, dict)):
        return above
    if looks_like_schedule(above):  # a whole schedule replaces another
        return above
    return {**below, **{key: _overlay_node(below.get(key), node) for key, node in above.items()}}


def _overlay_terms(below: Node, above: Node) -> list[Node]:
    """Return the loss terms after a higher layer, which may replace all, change the only one, or change one by its index."""
    terms: list[Node] = below if isinstance(below, list) else [below]
    if isinstance(above, list):
        return above
    assert isinstance(above, dict)
    if above and all(is_index(key) for key in above):
        return _patched(terms, above)
    if len(terms) == 1:
        return [overlay_component(terms[0], above)]
    if "name" in above:
        return [above]
    raise RecipeError(
        f"objective: {sorted(above)} fits any of {len(terms)} terms; write objective.0.{min(above, default='')}=..."
    )


def _patched(terms: list[Node], above: Tree) -> list[Node]:
    changed = list(terms)
    for key, node in above.items():
        if int(key) >= len(terms):
            raise RecipeError(f"objective.{key}: there is no such term. Terms: {len(terms)}, counted from 0")
        if isinstance(node, Leaf):
            node = _component(f"objective.{key}", node.value, node)
        changed[int(key)] = overlay_component(changed[int(key)], node)
    return changed
