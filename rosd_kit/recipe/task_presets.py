"""Task presets: `task: gsm8k` stands for the task, the verifier and the evaluation of `recipes/tasks/gsm8k.yaml`.

A preset is a small YAML file, shipped or given by its path, that the slot `task` names. Its values rank just below those of the
layer that names it. This module knows which sections a preset may have, not what they mean.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from rosd_kit.contracts import SLOTS, Verifier
from rosd_kit.errors import RecipeError, did_you_mean
from rosd_kit.plugins.registry import Registry
from rosd_kit.recipe.layers import Node, Tree, as_tree, overlay, plain
from rosd_kit.recipe.renamed_options import with_current_names
from rosd_kit.recipe.shipped import find, label, shipped_names
from rosd_kit.recipe.source_file import SourceFile
from rosd_kit.recipe.sources import read_chain

#: The sections of a preset. Methods belong into recipes, models and machines into profiles.
SECTIONS = ("task", "verifier", "sampling", "evaluation")
#: The slots whose components share options.
_SHARING = {kind for kind, slot in SLOTS.items() if slot.Config.model_fields}


def overlay_layer(
    below: Tree,
    content: Mapping[str, object],
    source: str,
    base: Path | None,
    registry: Registry,
    file: SourceFile | None = None,
) -> Tree:
    """Return `below` overlaid with one layer, and between them the preset that the layer's `task` names.

    A preset replaces the slots that it fills in lower layers, and so does another component that the layer names, but for the
    options that every component of the slot shares.
    `base` is the folder that a preset's path is relative to, `file` the file that wrote the layer.
    Raises `RecipeError` for a name that is neither a component nor a preset, and for sections that a preset may not have.
    """
    name = _named(content.get("task"))
    if name is None or name in registry.names("task"):
        return _overlay(below, content, source, registry, file)
    if not name.endswith((".yaml", ".yml")) and name not in shipped_names("tasks"):
        raise unknown_task(name, registry)
    tree: Tree = {}
    for path, preset, its_file in read_chain(find(name, base=base, folder="tasks"), folder="tasks"):
        _check(preset, label(path), registry)
        tree = _overlay(tree, preset, f"task {name}", registry, its_file)
    task = content["task"]
    own = {key: value for key, value in task.items() if key != "name"} if isinstance(task, Mapping) else {}
    kept = {key: node for key, node in below.items() if key not in {"task", "verifier"} & tree.keys()}
    if "verifier" in tree:
        tree["verifier"] = _with_shared_options("verifier", tree["verifier"], below.get("verifier", {}), registry)
    return _overlay(overlay(kept, tree), {**content, "task": own}, source, registry, file)


def unknown_task(name: str, registry: Registry) -> RecipeError:
    """Return the error for a task that is neither a component nor a preset, with the nearest of both."""
    try:
        registry.get("task", name)
    except RecipeError as error:
        presets = shipped_names("tasks")
        near = "" if did_you_mean(name, registry.names("task")) else did_you_mean(name, presets)
        return RecipeError(f"{error}\nTask presets: {', '.join(presets)}, or the path of a .yaml file.{near}")
    raise AssertionError(f"{name!r} is a component")


def _with_shared_options(kind: str, component: Node, below: Node, registry: Registry) -> Node:
    """Return a component with the options of the one beneath that do not depend on the component chosen there.

    These are the options that every component of the slot shares, like `truncated`, and those of the sandbox if a verifier has
    one. A component that is not known yet is left as it is.
    """
    if not (isinstance(component, dict) and isinstance(below, dict) and "name" in component):
        return component
    name = plain(component["name"])
    if name not in registry.names(kind):
        return component
    shared = {*SLOTS[kind].Config.model_fields, *(Verifier.SandboxConfig.model_fields if kind == "verifier" else ())}
    kept = shared & registry.get(kind, str(name)).Config.model_fields.keys()
    return {**{key: node for key, node in below.items() if key in kept}, **component}


def _overlay(below: Tree, content: Mapping[str, object], source: str, registry: Registry, file: SourceFile | None) -> Tree:
    above = with_current_names(as_tree(content, source, file), below, source, registry)
    for kind in _SHARING & above.keys() & below.keys():
        above[kind] = _with_shared_options(kind, above[kind], below[kind], registry)
    return overlay(below, above)


def _named(task: object) -> str | None:
    name = task.get("name") if isinstance(task, Mapping) else task
    return name if isinstance(name, str) else None


def _check(preset: Mapping[str, object], where: str, registry: Registry) -> None:
    for section in preset:
        if section not in SECTIONS:
            near = did_you_mean(section, SECTIONS)
            raise RecipeError(f"{section}: not allowed in {where}: a task preset holds {', '.join(SECTIONS)}.{near}")
    name = _named(preset.get("task"))
    if name is not None and name not in registry.names("task"):
        raise RecipeError(
            f"task: {name!r} in {where} must be a component, for example dataset; build on another preset with extends"
        )
