"""Decides whether a recipe's values that need trust are honoured, by the file that wrote each of them.

Values from the command line, from Python and from shipped files are. Those of other files are if the user trusts the file's
folder, if it is the recipe of a run that was started here, or if an installed plugin package brings it. Everything else is
refused by name, before anything is built. Which options need trust is declared on the options (`rosd_kit.Trusted`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import AliasChoices, AliasPath, BaseModel
from pydantic.fields import FieldInfo

from rosd_kit.contracts import SLOTS
from rosd_kit.errors import RecipeError, shortened
from rosd_kit.options.trusted import Trusted, parts_of, trusted_mark
from rosd_kit.plugins.registry import Registry
from rosd_kit.recipe.layers import Leaf, Tree, as_tree, leaves_of
from rosd_kit.recipe.references import targets
from rosd_kit.recipe.shipped import label
from rosd_kit.recipe.source_file import SourceFile
from rosd_kit.recipe.trust_store import is_in_trusted_folder, is_known_run, open_to_all
from rosd_kit.settings import CoreSettings


class NotTrusted(RecipeError):
    """A file that the user does not trust sets options that need trust."""


@dataclass(frozen=True)
class Ask:
    """A value that needs trust: its dotted path, what it can do, and the files whose word it is (none: the user's own)."""

    path: str
    value: object
    can: str
    files: tuple[SourceFile, ...]


def asks_of(tree: Tree, leaves: Mapping[str, Leaf], registry: Registry) -> tuple[Ask, ...]:
    """Return every value of a merged recipe that needs trust; `leaves` are the same values by dotted path.

    A value that refers to others is also the word of the files that wrote those.
    """
    found: dict[str, Ask] = {}
    for path, field, mark, leaf, value in _marked(tree, registry):
        references = [leaves[target] for target in targets(value) if target in leaves]
        if not references and (mark.is_harmless(value) or value == field.get_default(call_default_factory=True)):
            continue
        files = (one.file for one in (leaf, *references) if one.file is not None)
        found[path] = Ask(path, value, mark.can, tuple(dict.fromkeys(files)))
    return tuple(found.values())


def asks_of_values(values: Mapping[str, object], registry: Registry) -> tuple[Ask, ...]:
    """Return every value that needs trust of a whole recipe, as `to_values` writes it; nobody in particular wrote them."""
    tree = as_tree(values, "recipe")
    return asks_of(tree, leaves_of(tree), registry)


def needing_trust(values: Mapping[str, object], registry: Registry) -> frozenset[str]:
    """Return the dotted path of every value, harmless or not, of an option that needs trust, in a whole recipe."""
    return frozenset(path for path, *_ in _marked(as_tree(values, "recipe"), registry))


def refused(asks: tuple[Ask, ...], registry: Registry) -> list[tuple[Ask, SourceFile]]:
    """Return the values that are not honoured, each with the file that is not trusted."""
    if not any(ask.files for ask in asks):
        return []
    packages = _plugin_packages(registry)

    def is_trusted(file: SourceFile) -> bool:
        in_package = any(file.path.is_relative_to(package) for package in packages)
        return in_package or is_in_trusted_folder(file.path) or is_known_run(file.path, file.digest)

    return [(ask, file) for ask in asks if (file := next((one for one in ask.files if not is_trusted(one)), None))]


def check_trust(asks: tuple[Ask, ...], registry: Registry) -> None:
    """Raise `NotTrusted` that names every value that is not honoured, and how to allow it."""
    if not (found := refused(asks, registry)):
        return
    lines = [f"{ask.path}: {shortened(ask.value)} (from {label(file.path)}) {ask.can}" for ask, file in found]
    open_places = dict.fromkeys(place for _, file in found if (place := open_to_all(file.path)))
    lines += [f"{place}: everyone may write here, so it is not trusted until you run chmod o-w" for place in open_places]
    folders = dict.fromkeys(str(file.path.parent) for _, file in found)
    raise NotTrusted(
        "\n".join(lines) + f"\nA file must be trusted to set {'this' if len(found) == 1 else 'these'}. Read it. Then trust all "
        f"recipes of its folder (rosd-kit trust {' '.join(folders)}), or this one now (--trust-recipe), or write the "
        f"value on the command line ({found[0][0].path}=...)."
    )


def _plugin_packages(registry: Registry) -> list[Path]:
    """Return the folders of the installed packages that brought components; their code runs in any case."""
    files = {
        Path(entry.origin.file).resolve()
        for entries in registry.entries.values()
        for entry in entries.values()
        if entry.origin.distribution not in ("file", "python")
    }
    packages = set()
    for file in files:
        folder = None
        for parent in file.parents:
            if not (parent / "__init__.py").is_file():
                break
            folder = parent
        if folder is not None:
            packages.add(folder)
    return sorted(packages)


@dataclass(frozen=True)
class _Slot:
    """The components that a mapping inside a slot may name. Only those that are named are imported."""

    kind: str
    registry: Registry

    def configs(self, name: str) -> list[type[BaseModel]]:
        """Return the options of the component with this name, or of all if a reference hides the name."""
        known = self.registry.entries[self.kind]
        names = [name] if name in known else list(known) if targets(name) else []
        return [self.registry.get(self.kind, one).Config for one in names]


Marked = tuple[str, FieldInfo, Trusted, Leaf, object]


def _marked(tree: Tree, registry: Registry) -> Iterator[Marked]:
    """Yield every value that a layer wrote for an option that needs trust."""
    core: Tree = {key: node for key, node in tree.items() if key not in SLOTS}
    yield from _in_model(CoreSettings, core, "", None, None)
    for kind in SLOTS:
        nodes = tree.get(kind, {})
        terms = enumerate(nodes) if isinstance(nodes, list) else [(None, nodes)]
        slot = _Slot(kind, registry)
        for index, node in terms:
            yield from _in_component(node, kind if index is None else f"{kind}.{index}", None, slot)


def _in_component(node: object, path: str, leaf: Leaf | None, slot: _Slot | None) -> Iterator[Marked]:
    """Yield from a mapping that names a component; nothing where it names none."""
    if slot is None or not isinstance(node, Mapping):
        return
    name = node.get("name")
    name = name.value if isinstance(name, Leaf) else name
    if not isinstance(name, str):
        return
    for config in slot.configs(name):
        yield from _in_model(config, node, path, leaf, slot)


def _in_model(
    model: type[BaseModel], node: Mapping[str, object], path: str, leaf: Leaf | None, slot: _Slot | None
) -> Iterator[Marked]:
    for key, child in node.items():
        here = f"{path}.{key}" if path else str(key)
        if (field := _field(model, key)) is None:
            continue
        if (mark := trusted_mark(field)) is None:
            yield from _below(_models(field.annotation), child, here, leaf, slot)
        else:
            yield from ((at, field, mark, one, value) for at, one, value in _values(child, here, leaf))


def _below(models: list[type[BaseModel]], node: object, path: str, leaf: Leaf | None, slot: _Slot | None) -> Iterator[Marked]:
    """Yield from what an option holds: sections, lists and mappings of sections, and components that a component has."""
    if isinstance(node, Leaf):
        leaf, node = node, node.value
    if isinstance(node, Mapping):
        for model in models:
            yield from _in_model(model, node, path, leaf, slot)
        yield from _in_component(node, path, leaf, slot)
    items = node.items() if isinstance(node, Mapping) else enumerate(node) if isinstance(node, list) else ()
    for key, child in items:
        yield from _below(models, child, f"{path}.{key}", leaf, slot)


def _values(node: object, path: str, leaf: Leaf | None) -> Iterator[tuple[str, Leaf, object]]:
    """Yield each value below an option that needs trust; a list is one value."""
    if isinstance(node, Leaf):
        leaf, node = node, node.value
    if isinstance(node, Mapping):
        for key, child in node.items():
            yield from _values(child, f"{path}.{key}", leaf)
    else:
        assert leaf is not None, "every value stands in a leaf"
        yield path, leaf, node


def _models(annotation: object) -> list[type[BaseModel]]:
    """Return the sections that an option may hold, by itself or in lists and mappings."""
    return [part for part in parts_of(annotation) if isinstance(part, type) and issubclass(part, BaseModel)]


def _field(model: type[BaseModel], key: object) -> FieldInfo | None:
    """Return the option that a key names, also by an alias."""
    for name, field in model.model_fields.items():
        alias = field.validation_alias
        names = [name, *(alias.choices if isinstance(alias, AliasChoices) else [alias])]
        if any(key == (one.path[0] if isinstance(one, AliasPath) else one) for one in names):
            return field
    return None
