"""Options under old names: every layer of a recipe is rewritten with the current ones before it is merged.

So a higher layer wins over a lower one whichever name either uses, and a resolved recipe has current names alone. The core's
options are listed in `rosd_kit.renames`, a component's in its `Config.renamed_options`. It knows nothing of files.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from rosd_kit import renames
from rosd_kit.contracts import SLOTS
from rosd_kit.errors import RecipeError
from rosd_kit.plugins.registry import Registry
from rosd_kit.recipe.layers import Leaf, Node, Tree, is_index, plain
from rosd_kit.renames import Renamed, RenamedOptionWarning
from rosd_kit.types import JsonObject


def with_current_names(layer: Tree, below: Tree, source: str, registry: Registry) -> Tree:
    """Return a layer with the current names of its options, and warn of each old one.

    `below` holds the lower layers, which may name the components that this one has options for. Raises `RecipeError` where
    the layer has an option under both names.
    """
    for renamed in renames.OPTIONS.values():
        moved = _move(layer, renamed.old, renamed.new, source, renamed)
        layer = {key: _with_references(node, renamed) for key, node in moved.items()}
    for path, old, new in _component_options(layer, below, registry):
        layer = _move(layer, f"{path}.{old}", f"{path}.{new}", source)
    return layer


def current_options(options: Mapping[str, object], path: str, names: Mapping[str, str], source: str) -> JsonObject:
    """Return a component's options in a profile with their current names; `names` are old and new ones, `path` for messages."""
    current = dict(options)
    for old, new in names.items():
        if old in current:
            _check(new in current, f"{path}.{old}", f"{path}.{new}", source)
            current[new] = current.pop(old)
    return current


def refuse_both(paths: Iterable[str], merged: Tree, registry: Registry) -> None:
    """Raise `RecipeError` where the command line, which sets these paths, gives an option under both names."""
    given = set(paths)
    pairs = [(renamed.old, renamed.new) for renamed in renames.OPTIONS.values()]
    pairs += [(f"{path}.{old}", f"{path}.{new}") for path, old, new in _component_options(merged, {}, registry)]
    for old, new in pairs:
        if old in given and new in given:
            raise _both(old, new, "command line")


def _component_options(layer: Tree, below: Tree, registry: Registry) -> Iterator[tuple[str, str, str]]:
    """Yield the path of every component that a layer has options for, with each old and new name of its options."""
    for path, kind, node, under in _components(layer, below):
        name = plain(node["name"] if "name" in node else under.get("name", Leaf("", "")))
        entry = registry.entries[kind].get(name) if isinstance(name, str) else None
        for old, new in entry.cls.Config.renamed_options.items() if entry else ():
            yield path, old, new


def _components(layer: Tree, below: Tree) -> Iterator[tuple[str, str, Tree, Tree]]:
    """Yield the path, slot and node of every component in a layer, and what lies below that node."""
    for kind in SLOTS:
        node, under = layer.get(kind), below.get(kind, {})
        if isinstance(node, list) or (isinstance(node, dict) and node and all(is_index(key) for key in node)):
            terms = enumerate(node) if isinstance(node, list) else ((int(key), term) for key, term in node.items())
            for index, term in terms:
                lower = under[index] if isinstance(under, list) and index < len(under) else {}
                if isinstance(term, dict):
                    yield f"{kind}.{index}", kind, term, lower if isinstance(lower, dict) else {}
        elif isinstance(node, dict):
            lower = under[0] if isinstance(under, list) and len(under) == 1 else under
            yield kind, kind, node, lower if isinstance(lower, dict) else {}


def _move(tree: Tree, old: str, new: str, source: str, renamed: Renamed | None = None) -> Tree:
    """Return a tree with what is at the path `old` at the path `new`; the same tree where there is nothing."""
    node = _at(tree, old)
    if node is None:
        return tree
    _check(_at(tree, new) is not None, old, new, source, renamed)
    if renamed is not None and isinstance(node, Leaf):
        node = replace(node, value=renamed.current(node.value))
    return _set(_set(tree, old.split("."), None), new.split("."), node)


def _check(both: bool, old: str, new: str, source: str, renamed: Renamed | None = None) -> None:
    """Warn of an old name in a layer; raises `RecipeError` where the new one is given too."""
    if both:
        raise _both(old, new, source)
    renames.warn(f"{source}: {renamed or f'{old} is called {new}; write {new}.'}", RenamedOptionWarning)


def _both(old: str, new: str, source: str) -> RecipeError:
    return RecipeError(f"{old}: is the old name of {new}, which is given too (both from {source}). Remove {old}")


def _at(node: Node, path: str) -> Node | None:
    current: Node | None = node
    for key in path.split("."):
        if isinstance(current, list):
            current = current[int(key)] if is_index(key) and int(key) < len(current) else None
        else:
            current = current.get(key) if isinstance(current, dict) else None
    return current


def _set(tree: Tree, keys: list[str], node: Node | None) -> Tree:
    """Return a copy of a tree with a node at a path, or without the one that is there."""
    key, *rest = keys
    if not rest:
        others = {other: item for other, item in tree.items() if other != key}
        return others if node is None else {**others, key: node}
    below = tree.get(key)
    if isinstance(below, list):
        index, *inner = rest
        terms = [
            _set(term, inner, node) if i == int(index) and isinstance(term, dict) else term for i, term in enumerate(below)
        ]
        return {**tree, key: terms}
    return {**tree, key: _set(below if isinstance(below, dict) else {}, rest, node)}


def _with_references(node: Node, renamed: Renamed) -> Node:
    """Return a tree in which references to an old path (`${section.option}`) name the new one."""
    if isinstance(node, Leaf):
        value = _with_new_path(node.value, renamed)
        return node if value is node.value else replace(node, value=value)
    if isinstance(node, dict):
        return {key: _with_references(item, renamed) for key, item in node.items()}
    return [_with_references(item, renamed) for item in node]


def _with_new_path(value: object, renamed: Renamed) -> object:
    if isinstance(value, dict):
        return {key: _with_new_path(item, renamed) for key, item in value.items()}
    if isinstance(value, list):
        return [_with_new_path(item, renamed) for item in value]
    return value.replace(f"${{{renamed.old}}}", f"${{{renamed.new}}}") if isinstance(value, str) else value
