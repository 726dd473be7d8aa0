"""Prompts files: `prompts: FILE` takes the templates of reflector and context from a file.

A prompts file names templates by slot and component, so one file serves several recipes:

    reflector:
      tutor: {system: ..., wrong_template: ..., right_template: ...}
    context:
      key_idea: {template: ..., fallback_template: ...}

Only the chosen components take theirs. The values rank just below those of the layer that names the file, and above all lower
layers. `${` has no meaning in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from rosd_kit.errors import RecipeError, did_you_mean
from rosd_kit.options.trusted import trusted_mark
from rosd_kit.plugins.registry import Registry
from rosd_kit.recipe.layers import Leaf, Tree, plain
from rosd_kit.recipe.references import escape_references
from rosd_kit.recipe.sdpo_config import find_sdpo_templates, read_sdpo_templates
from rosd_kit.recipe.shipped import find, label
from rosd_kit.recipe.sources import read_texts
from rosd_kit.recipe.validation import validated
from rosd_kit.types import JsonObject

SECTIONS = ("reflector", "context")
NO_PROMPTS = "none"
#: Templates by slot, component and option.
Prompts = dict[str, dict[str, dict[str, str]]]


class PromptsChoice:
    """The prompts file that the highest layer names, and the values beneath that layer."""

    def __init__(self) -> None:
        self._name: object = NO_PROMPTS
        self._base: Path | None = None
        self._below: Tree = {}

    def take(self, content: JsonObject, base: Path | None, below: Tree) -> None:
        """Take `prompts` out of a layer, whose paths are relative to `base`; `below` are the values beneath the layer."""
        if "prompts" in content:
            self._name, self._base, self._below = content.pop("prompts"), base, below

    def overlaid(self, merged: Tree, registry: Registry) -> Tree:
        """Return the merged layers with the templates of the chosen file, if one is chosen.

        Raises `RecipeError` for a mistake in the file, and if it has nothing for the chosen components.
        """
        if self._name in (NO_PROMPTS, None):
            return merged
        if not isinstance(self._name, str):
            raise RecipeError(f"prompts: {self._name!r} is not a name. Write the path of a .yaml file, a shipped name, or none")
        path = find(self._name, base=self._base, folder="prompts")
        prompts = read_prompts(path, registry)
        filled, chosen = dict(merged), {kind: _chosen(merged, kind) for kind in SECTIONS}
        for kind, name in chosen.items():
            node, below = merged[kind], self._below.get(kind)
            assert isinstance(node, dict)
            own = {key: leaf for key, leaf in node.items() if not (isinstance(below, dict) and below.get(key) is leaf)}
            texts = prompts.get(kind, {}).get(name, {})
            leaves = {key: Leaf(escape_references(text), f"prompts {label(path)}") for key, text in texts.items()}
            filled[kind] = {**node, **leaves, **own}
        if not any(name in prompts.get(kind, {}) for kind, name in chosen.items()):
            there = ", ".join(f"{kind} {name}" for kind, by_name in prompts.items() for name in by_name) or "nothing"
            raise RecipeError(
                f"prompts: {label(path)} has templates for {there}; chosen are "
                f"{', '.join(f'{kind} {name}' for kind, name in chosen.items())}. Choose one of those, or leave prompts out"
            )
        return filled


def read_prompts(path: Path, registry: Registry) -> Prompts:
    """Return the templates in a file: a prompts file, or a configuration file of the SDPO or ROSD code.

    Raises `RecipeError` for unknown sections, components and options, and for templates with unknown or missing fields.
    """
    content, where = read_texts(path), f"prompts {label(path)}"
    sdpo = find_sdpo_templates(content)
    if sdpo is not None:
        content = read_sdpo_templates(sdpo, where)
    prompts: Prompts = {}
    for kind, by_name in content.items():
        if kind not in SECTIONS:
            raise RecipeError(
                f"{kind}: not allowed in {where}: it holds {' and '.join(SECTIONS)}.{did_you_mean(kind, SECTIONS)}"
            )
        prompts[kind] = {}
        for name, options in _mapping(by_name, kind, where).items():
            prompts[kind][name] = _templates(kind, name, _mapping(options, f"{kind}.{name}", where), where, registry)
    return prompts


def _templates(kind: str, name: str, options: Mapping[str, object], where: str, registry: Registry) -> dict[str, str]:
    """Return a component's templates, checked as its options are."""
    config, path = registry.get(kind, name).Config, f"{kind}.{name}"
    known = [
        option
        for option, field in config.model_fields.items()
        if (option == "system" or option.endswith("template")) and trusted_mark(field) is None
    ]
    templates: dict[str, str] = {}
    for option, text in options.items():
        if option not in known:
            raise RecipeError(
                f"{path}.{option}: not a template of {kind} {name!r} (from {where}).{did_you_mean(option, known)} "
                f"Templates: {', '.join(known) or 'none'}"
            )
        if not isinstance(text, str):
            raise RecipeError(f"{path}.{option}: {text!r} (from {where}) is not text. Put it in quotes or a block (|-)")
        templates[option] = text
    validated(config, options, path=path, see=f"rosd-kit components {kind} {name}", source=lambda _: where)
    return templates


def _chosen(merged: Tree, kind: str) -> str:
    """Return the name of the component that fills a slot."""
    node = merged.get(kind, {})
    return str(plain(node["name"])) if isinstance(node, dict) and "name" in node else "none"


def _mapping(content: object, path: str, where: str) -> Mapping[str, object]:
    if not isinstance(content, Mapping):
        raise RecipeError(f"{path}: {content!r} (from {where}) must be a mapping")
    return content
