"""Resolves a recipe: reads its layers, merges them, fills the slots, validates.

All mistakes are found here, before a model is loaded. Nothing is built.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

from rosd_kit.contracts import SLOTS
from rosd_kit.errors import RecipeError, did_you_mean
from rosd_kit.plugins.registry import Registry
from rosd_kit.recipe.layers import DEFAULTS, Leaf, Node, Tree, as_tree, leaves_of, overlay, overlay_component, plain_values
from rosd_kit.recipe.model import ComponentChoice, ObjectiveChoice, Recipe
from rosd_kit.recipe.plugin_files import take_plugins
from rosd_kit.recipe.prompts import PromptsChoice
from rosd_kit.recipe.references import replace_references
from rosd_kit.recipe.renamed_options import current_options, refuse_both
from rosd_kit.recipe.shipped import SHIPPED, find, label
from rosd_kit.recipe.source_file import SourceFile
from rosd_kit.recipe.sources import FileLayer, chain_of, read_chain, read_overrides
from rosd_kit.recipe.task_presets import overlay_layer
from rosd_kit.recipe.trust import Ask, asks_of
from rosd_kit.recipe.validation import UnmetNeedError, check_capabilities, validated
from rosd_kit.settings import CoreSettings
from rosd_kit.types import JsonObject

DEFAULT_PROFILE = "micro"
NO_PROFILE = "none"
COMMAND_LINE = "command line"


@dataclass(frozen=True)
class Resolution:
    """A recipe, and the layer that set each value, by the value's dotted path.

    `asks` are the values that need trust, with the files whose word they are. `profile` is the one that was chosen, and
    `preset` the nearest shipped recipe that this one is or extends, if any.
    """

    recipe: Recipe
    provenance: Mapping[str, str]
    asks: tuple[Ask, ...] = ()
    profile: str = NO_PROFILE
    preset: str | None = None


def load_recipe(
    what: str | Path | Mapping[str, object], overrides: Sequence[str] = (), profile: str | None = None, *, registry: Registry
) -> Recipe:
    """Return the recipe of a file, a shipped name or a mapping; see `resolve_recipe`."""
    return resolve_recipe(what, overrides, profile, registry=registry).recipe


def resolve_recipe(
    what: str | Path | Mapping[str, object],
    overrides: Sequence[str] = (),
    profile: str | None = None,
    *,
    registry: Registry,
    written: Mapping[str, SourceFile | None] = MappingProxyType({}),
) -> Resolution:
    """Return the recipe with the origin of its values.

    `what` is a file, a shipped name, or a mapping of fields as a file would hold them.
    `overrides` are `field=value` texts; `profile` (a name, a path, or `none`) wins over the recipe's own. `written` names the
    file of each overridden field whose value is not the user's own word. Nothing is refused for want of trust here: see
    `check_trust`. Raises `RecipeError` for every mistake that can be found without loading a model.
    """
    chain = chain_of(what) if isinstance(what, Mapping) else read_chain(find(str(what)))
    command = read_overrides(overrides)
    chosen, base = _choose_profile(chain, [content for _, content in command], profile)
    chain[-1][1].setdefault("name", chain[-1][0].stem)
    merged = overlay({}, as_tree(DEFAULTS, "default"))
    preset: Tree = {}
    prompts = PromptsChoice()
    for path, content, file in _profile_chain(chosen, base):
        prompts.take(content, path.parent, merged)
        preset = overlay(preset, _presets(content.pop("components", {}), f"profile {chosen}", registry, file))
        _refuse(content, "profile", label(path), "a profile cannot choose another; use extends")
        merged = overlay_layer(merged, content, f"profile {chosen}", path.parent, registry, file)
    for path, content, file in chain:
        take_plugins(content, label(path))
        prompts.take(content, path.parent, merged)
        _refuse(content, "components", label(path), "presets belong in a profile; set the options of the slot instead")
        merged = overlay_layer(merged, content, label(path), path.parent, registry, file)
    beneath = merged
    # A preset lies beneath the rest of the command line.
    for field, content in sorted(command, key=lambda one: one[0] not in ("task", "task.name")):
        prompts.take(content, None, beneath)
        merged = overlay_layer(merged, content, COMMAND_LINE, None, registry, written.get(field))
    refuse_both([field for field, _ in command], merged, registry)
    try:
        resolution = _validate(_preset(prompts.overlaid(merged, registry), preset, registry), registry)
    except UnmetNeedError:
        _explain_bare(chain, [field for field, _ in command])
        raise
    shipped = next((path for path, _, _ in reversed(chain) if path.resolve().is_relative_to(SHIPPED)), None)
    name = shipped.resolve().relative_to(SHIPPED).with_suffix("").as_posix() if shipped is not None else None
    if base is not None and chosen.endswith((".yaml", ".yml")):  # a path in a file is relative to it
        chosen = str(base / chosen)
    return replace(resolution, profile=chosen, preset=name)


def _choose_profile(chain: list[FileLayer], command: list[JsonObject], profile: str | None) -> tuple[str, Path | None]:
    """Take `profile` out of every layer; return the one that wins and the folder that its path is relative to."""
    name: object = DEFAULT_PROFILE
    base: Path | None = None
    for path, content, _ in chain:
        if "profile" in content:
            name, base = content.pop("profile"), path.parent
    for content in command:
        if "profile" in content:
            name, base = content.pop("profile"), None
    if profile is not None:
        name, base = profile, None
    if not isinstance(name, str):
        raise RecipeError(f"profile: {name!r} is not a name. Write a profile's name, a path, or none")
    return name, base


def _explain_bare(chain: Sequence[FileLayer], changed: Sequence[str]) -> None:
    """Raise `RecipeError` if a recipe builds on none and fills no slot: no method follows from the defaults alone."""
    if len(chain) == 1 and not any(field.split(".")[0] in SLOTS for field in (*chain[0][1], *changed)):
        raise RecipeError(
            f"{label(chain[0][0])}: names no component and extends no recipe. Begin with a method: `extends: rosd`, and change "
            "what differs. See: rosd-kit recipes"
        ) from None


def _profile_chain(profile: str, base: Path | None) -> list[FileLayer]:
    if profile == NO_PROFILE:
        return []
    return read_chain(find(profile, base=base, folder="profiles"), folder="profiles")


def _refuse(content: Mapping[str, object], key: str, where: str, why: str) -> None:
    if key in content:
        raise RecipeError(f"{key}: not allowed in {where}: {why}")


def _presets(content: object, source: str, registry: Registry, file: SourceFile | None) -> Tree:
    """Return a profile's `components` section as a tree of slot, component and option; misspelt names are errors."""
    current: dict[str, JsonObject] = {}
    for kind, by_name in _mapping(content, "components", source).items():
        registry.names(kind)  # refuses a misspelt slot, also one without components
        current[kind] = {}
        for name, options in _mapping(by_name, f"components.{kind}", source).items():
            config = registry.get(kind, name).Config
            known, path = config.model_fields, f"components.{kind}.{name}"
            options = current_options(_mapping(options, path, source), path, config.renamed_options, source)
            current[kind][name] = options
            for option in options:
                if option not in known:
                    raise RecipeError(
                        f"{path}.{option}: unknown option (from {source}).{did_you_mean(option, known)} "
                        f"Known: {', '.join(known)}. See: rosd-kit components {kind} {name}"
                    )
    return as_tree({"components": current}, source, file)


def _mapping(content: object, path: str, source: str) -> JsonObject:
    if not isinstance(content, dict):
        raise RecipeError(f"{path}: {content!r} (from {source}) must be a mapping")
    return content


def _preset(merged: Tree, preset: Tree, registry: Registry) -> Tree:
    """Put a profile's options for the chosen components below the layers' own options."""
    filled = dict(merged)
    for kind in SLOTS:
        if kind not in merged:
            raise RecipeError(
                f"{kind}: no component chosen. Write `{kind}: NAME` or choose a profile. "
                f"Known: {', '.join(registry.names(kind))}"
            )
        node = merged[kind]
        if isinstance(node, list):
            filled[kind] = [_with_preset(f"{kind}.{i}", kind, term, preset, registry) for i, term in enumerate(node)]
        else:
            filled[kind] = _with_preset(kind, kind, node, preset, registry)
    return filled


def _with_preset(path: str, kind: str, node: Node, preset: Tree, registry: Registry) -> Tree:
    assert isinstance(node, dict)
    name = node.get("name")
    if not (isinstance(name, Leaf) and isinstance(name.value, str)):
        raise RecipeError(f"{path}: names no component. Write name: ... Known: {', '.join(registry.names(kind))}")
    registry.get(kind, name.value)
    below = preset.get("components", {})
    for key in (kind, name.value):
        below = below.get(key, {}) if isinstance(below, dict) else {}
    return overlay_component(below, node)


def _validate(tree: Tree, registry: Registry) -> Resolution:
    """Return the resolution of a merged tree. Raises `RecipeError` for every mistake in it."""
    leaves = leaves_of(tree)
    sources = {path: leaf.source for path, leaf in leaves.items()}
    values = replace_references(plain_values(tree), leaves)
    single = len(values["objective"]) == 1

    def source(path: str) -> str:
        path = path.replace("objective", "objective.0", 1) if single and path.startswith("objective") else path
        keys = [key for key in sources if key == path or key.startswith(f"{path}.")]
        keys = keys or [key for key in sources if path.startswith(f"{key}.")]  # a part of a list has no source of its own
        return sources[keys[0]] if keys else "default"

    slots = {kind: values.pop(kind) for kind in SLOTS}
    known = [*SLOTS, "profile", "extends", "prompts", "plugins"]
    core = validated(CoreSettings, values, path="", see="rosd-kit schema", source=source, also_known=known)
    choices: JsonObject = {
        kind: ComponentChoice(**_options(kind, kind, options, source, registry))
        for kind, options in slots.items()
        if kind != "objective"
    }
    choices["objective"] = tuple(
        _term("objective" if single else f"objective.{i}", term, source, registry) for i, term in enumerate(slots["objective"])
    )
    _refuse_bad_terms(choices["objective"])
    recipe = Recipe(**{field: getattr(core, field) for field in CoreSettings.model_fields}, **choices)
    check_capabilities(recipe, registry)
    return Resolution(recipe, sources, asks_of(tree, leaves, registry))


def _options(path: str, kind: str, values: JsonObject, source: Callable[[str], str], registry: Registry) -> JsonObject:
    name = values.pop("name")
    see = f"rosd-kit components {kind} {name}"
    return {
        "name": name,
        "options": validated(
            registry.get(kind, name).Config,
            values,
            path=path,
            see=see,
            source=source,
            others=lambda option: registry.with_option(kind, option),
        ),
    }


def _term(path: str, values: JsonObject, source: Callable[[str], str], registry: Registry) -> ObjectiveChoice:
    term = {"name": values["name"], "weight": values.pop("weight", 1.0), "denominator": values.pop("denominator", "own")}
    checked = validated(ObjectiveChoice, term, path=path, see="rosd-kit schema", source=source)
    return checked.model_copy(update=_options(path, "objective", values, source, registry))


def _refuse_bad_terms(terms: Sequence[ObjectiveChoice]) -> None:
    names = [term.name for term in terms]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise RecipeError(f"objective: {twice[0]!r} is written twice; write it once and change its weight")
    if not any(term.weight > 0 or "weight" in term.schedules() for term in terms):
        raise RecipeError("objective: no term has a weight above 0. Name at least one: objective=distill")
