"""The commands that only look: show, components, plugins and schema."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from rosd_kit.cli.common import Overrides, PluginFiles, Profile, RecipeArgument, load, load_plugins

if TYPE_CHECKING:
    from rosd_kit.plugins import PluginReport


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
    from rosd_kit.recipe import explained

    resolution = load(load_plugins(context, plugin), recipe, overrides, profile)
    print(explained(resolution.recipe, resolution.provenance), end="")


def components(
    context: typer.Context,
    kind: Annotated[str | None, typer.Argument(metavar="SLOT", help="Only this slot.")] = None,
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="This component, with its options.")] = None,
    plugin: PluginFiles = None,
) -> None:
    """List all components, or describe one."""
    from rosd_kit.cli.listing import describe, list_components

    registry = load_plugins(context, plugin).registry
    if kind is not None and name is not None:
        describe(registry, kind, name)
    else:
        list_components(registry, [kind] if kind else list(registry.entries))


def plugins(context: typer.Context, plugin: PluginFiles = None) -> None:
    """List every plugin: what it brings, or why it is left out."""
    for report in load_plugins(context, plugin, warn=False).reports:
        print("\n".join(_lines(report)))


def schema(
    context: typer.Context,
    profile: Annotated[bool, typer.Option(help="The schema of profiles instead.")] = False,
    plugin: PluginFiles = None,
) -> None:
    """Print the JSON Schema of recipes, for editors."""
    from rosd_kit.recipe import recipe_schema

    print(json.dumps(recipe_schema(load_plugins(context, plugin).registry, profile=profile), indent=2))


def _lines(report: PluginReport) -> list[str]:
    lines = [f"{report.name}  {report.status}  ({report.distribution} {report.version})", f"  file: {report.file}"]
    if report.reason:
        lines.append(f"  reason: {report.reason}")
    if report.status == "ok":
        lines.append(f"  hooks: {', '.join(report.hooks)}")
        brings = f"{len(report.brings)} components" if len(report.brings) > 8 else ", ".join(report.brings)
        lines.append(f"  brings: {brings or 'no components'}")
    return lines
