"""The commands that only show something: show, components and schema.

They load plugins first, which defers torch, and import what needs it after that.
"""

from __future__ import annotations

import json
from typing import Annotated

import typer

from rosd_kit.cli import completion
from rosd_kit.cli.common import Overrides, PluginFiles, Profile, RecipeArgument, TrustRecipe, inspect, load_plugins


def show(
    context: typer.Context,
    recipe: RecipeArgument,
    overrides: Overrides = None,
    profile: Profile = None,
    plugin: PluginFiles = None,
    trust_recipe: TrustRecipe = False,
) -> None:
    """Print a recipe with the origin of each value.

    The output is itself a recipe. If files that are not trusted set options that need trust, these are marked, and the exit
    code is 2.
    """
    manager = load_plugins(context, plugin, lists=True, recipe=recipe)
    resolution = inspect(manager, recipe, overrides, profile)
    from rosd_kit.recipe import explained, to_values
    from rosd_kit.recipe.plugin_files import plugin_files_of
    from rosd_kit.recipe.trust import check_trust, needing_trust, refused

    asks = () if trust_recipe else resolution.asks
    needing = needing_trust(to_values(resolution.recipe), manager.registry)
    not_honoured = {ask.path for ask, _ in refused(asks, manager.registry)}
    plugins = plugin_files_of(resolution.recipe, manager.registry)
    print(explained(resolution.recipe, resolution.provenance, needing, not_honoured, plugins), end="")
    check_trust(asks, manager.registry)


def components(
    context: typer.Context,
    kind: Annotated[str | None, typer.Argument(metavar="SLOT", help="Only this slot.", autocompletion=completion.slots)] = None,
    name: Annotated[
        str | None,
        typer.Argument(metavar="NAME", help="This component, with its options.", autocompletion=completion.component_names),
    ] = None,
    plugin: PluginFiles = None,
) -> None:
    """List all components, or describe one."""
    registry = load_plugins(context, plugin, lists=True).registry
    from rosd_kit.cli.listing import describe, list_components

    if kind is not None and name is not None:
        describe(registry, kind, name)
    else:
        list_components(registry, [kind] if kind else list(registry.entries))


def recipes(context: typer.Context) -> None:
    """List the shipped recipes, with a line each."""
    _list_files("")


def profiles(context: typer.Context) -> None:
    """List the shipped profiles, with a line each."""
    _list_files("profiles")


def tasks(context: typer.Context, plugin: PluginFiles = None) -> None:
    """List the tasks and the task presets, with a line each and where they come from."""
    registry = load_plugins(context, plugin, lists=True).registry
    from rosd_kit.cli.listing import list_tasks

    list_tasks(registry)


def _list_files(folder: str) -> None:
    from rosd_kit.cli.listing import list_files

    list_files(folder)


def schema(
    context: typer.Context,
    profile: Annotated[bool, typer.Option("--profile", help="The schema of profiles instead.")] = False,
    plugin: PluginFiles = None,
) -> None:
    """Print the JSON Schema of recipes, for editors."""
    registry = load_plugins(context, plugin, lists=True).registry
    from rosd_kit.recipe import recipe_schema

    print(json.dumps(recipe_schema(registry, profile=profile), indent=2))
