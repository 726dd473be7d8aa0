"""Records where the values of a run's recipe come from, and what it changes of the shipped recipe beneath it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import TypedDict

from rosd_kit.errors import RecipeError
from rosd_kit.plugins.registry import Registry
from rosd_kit.recipe.difference import differences
from rosd_kit.recipe.model import Recipe
from rosd_kit.recipe.plugin_files import plugin_files_of
from rosd_kit.recipe.render import explained
from rosd_kit.recipe.resolve import COMMAND_LINE, Resolution, resolve_recipe


class Change(TypedDict):
    """A value that is not the shipped recipe's: its path, both values as JSON (None where there is none), and who set it."""

    path: str
    preset: str | None
    value: str | None
    origin: str


class OriginsRecord(TypedDict):
    """What `origins.json` says of a run: the shipped recipe beneath it, its profile, and the layer that set each value.

    `explained` is the resolved recipe with these layers as comments.
    """

    preset: str | None
    profile: str
    origins: dict[str, str]
    changes: list[Change]
    explained: str


def origins_record(
    recipe: Recipe,
    resolution: Resolution,
    registry: Registry,
    earlier: Mapping[str, object] = MappingProxyType({}),
) -> OriginsRecord:
    """Return the record of a run of `recipe`, which `resolution` led to.

    `earlier` is the record of the run that this one continues: only what the command line changes is new in it.
    """
    preset, profile, origins = resolution.preset, resolution.profile, dict(resolution.provenance)
    before = earlier.get("origins")
    if isinstance(before, dict):
        named = earlier.get("preset")
        preset, profile = str(named) if named is not None else None, str(earlier.get("profile"))
        origins = {**before, **{path: source for path, source in origins.items() if source == COMMAND_LINE}}
    own = replace(resolution, recipe=recipe, provenance=origins)
    return OriginsRecord(
        preset=preset,
        profile=profile,
        origins=origins,
        changes=_changes(preset, profile, own, registry),
        explained=explained(recipe, origins, plugins=plugin_files_of(recipe, registry)),
    )


def _changes(preset: str | None, profile: str, own: Resolution, registry: Registry) -> list[Change]:
    if preset is None:
        return []
    try:
        shipped = resolve_recipe(preset, profile=profile, registry=registry)
    except RecipeError:  # a file of a profile that is gone, or a slot that only this recipe fills
        return []
    return [
        Change(path=each.path, preset=each.left.value, value=each.right.value, origin=each.right.origin)
        for each in differences(shipped, own)
        if each.path != "name"
    ]
