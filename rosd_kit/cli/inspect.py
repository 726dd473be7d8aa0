"""The commands that only show something: show, components and schema.

They load plugins first, which defers torch, and import what needs it after that.
"""

from __future__ import annotations

import json
from typing import Annotated

import typer

from rosd_kit.cli.common import Overrides, PluginFiles, Profile, RecipeArgument, load, load_plugins


def show(
    context: typer.Context,
    recipe: RecipeArgument,
    overrides: Overrides = None,
    profile: Profile = None,
    plugin: PluginFiles = None,
) -> None:
    """Print a recipe with the origin of each value.

    The output is itself a recipe.
    """
    resolution = load(load_plugins(context, plugin, lists=True), recipe, overrides, profile)
    from rosd_kit.recipe import explained

    print(explained(resolution.recipe, resolution.provenance), end="")


def components(
    context: typer.Context,
    kind: Annotated[str | None, typer.Argument(metavar="SLOT", help="Only this slot.")] = None,
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="This component, with its options.")] = None,
    plugin: PluginFiles = None,
) -> None:
    """List all components, or describe one."""
    registry = load_plugins(context, plugin, lists=True).registry
    from rosd_kit.cli.listing import describe, list_components

    if kind is not None and name is not None:
        describe(registry, kind, name)
    else:
        list_components(registry, [kind] if kind else list(registry.entries))


def schema(
    context: typer.Context,
    profile: Annotated[bool, typer.Option("--profile", help="The schema of profiles instead.")] = False,
    plugin: PluginFiles = None,
) -> None:
    """Print the JSON Schema of recipes, for editors."""
    registry = load_plugins(context, plugin, lists=True).registry
    from rosd_kit.recipe import recipe_schema

    print(json.dumps(recipe_schema(registry, profile=profile), indent=2))
