"""The command diff: what two recipes differ in once they are resolved."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from rosd_kit.cli import completion
from rosd_kit.cli.common import Overrides, PluginFiles, Profile, TrustRecipe, inspect, load_plugins

if TYPE_CHECKING:
    from rosd_kit.recipe.difference import Difference, Side

Changes = list[str] | None


def diff(
    context: typer.Context,
    left: Annotated[
        str,
        typer.Argument(
            metavar="RECIPE", help="A recipe file or the name of a shipped recipe.", autocompletion=completion.recipes
        ),
    ],
    right: Annotated[
        str, typer.Argument(metavar="RECIPE", help="The recipe to compare with it.", autocompletion=completion.recipes)
    ],
    overrides: Overrides = None,
    profile: Profile = None,
    left_changes: Annotated[
        Changes, typer.Option("--left", metavar="FIELD=VALUE", help="A change to the first recipe alone. Repeatable.")
    ] = None,
    right_changes: Annotated[
        Changes, typer.Option("--right", metavar="FIELD=VALUE", help="A change to the second recipe alone. Repeatable.")
    ] = None,
    left_profile: Annotated[
        str | None, typer.Option(help="Profile of the first recipe alone.", autocompletion=completion.profiles)
    ] = None,
    right_profile: Annotated[
        str | None, typer.Option(help="Profile of the second recipe alone.", autocompletion=completion.profiles)
    ] = None,
    tabs: Annotated[bool, typer.Option("--tabs", help="Print columns separated by tabs and no header, for scripts.")] = False,
    plugin: PluginFiles = None,
    trust_recipe: TrustRecipe = False,
) -> None:
    """Print what two recipes differ in, with the origin of each value.

    The exit code is 0 whether they differ or not, and 2 after the list if files that are not trusted set options that need
    trust. FIELD=VALUE words and --profile hold for both.
    """
    manager = load_plugins(context, plugin, lists=True)
    both = overrides or []
    one = inspect(manager, left, [*both, *(left_changes or ())], left_profile or profile)
    other = inspect(manager, right, [*both, *(right_changes or ())], right_profile or profile)
    from rosd_kit.recipe.difference import differences
    from rosd_kit.recipe.trust import check_trust

    found = differences(one, other)
    if tabs:
        for each in found:
            sides = (each.left, each.right)
            print(each.path, *(text for side in sides for text in (side.value or "", side.origin)), sep="\t")
    elif found:
        _print_table(found, left, right)
    else:
        print("The recipes are equal.")
    if not trust_recipe:
        check_trust((*one.asks, *other.asks), manager.registry)


def _print_table(found: Sequence[Difference], left: str, right: str) -> None:
    def cell(side: Side) -> str:
        return "-" if side.value is None else f"{side.value}  ({side.origin})"

    rows = [("option", left, right), *((each.path, cell(each.left), cell(each.right)) for each in found)]
    widths = [max(len(row[column]) for row in rows) for column in range(2)]
    for path, first, second in rows:
        print(f"{path:<{min(widths[0], 50)}}  {first:<{min(widths[1], 60)}}  {second}")
