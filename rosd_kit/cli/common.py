"""Common arguments of the commands, and how they load plugins and recipes."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from rosd_kit.cli import completion
from rosd_kit.deferred import HEAVY, defer
from rosd_kit.errors import RosdError, did_you_mean, shortened
from rosd_kit.plugins.manager import PluginManager

if TYPE_CHECKING:
    from rosd_kit.recipe import Resolution


#: What people look for, and the command that does it.
_COMMANDS = {
    "train": "run RECIPE",
    "start": "run RECIPE",
    "resume": "run --resume RUN",
    "continue": "run --resume RUN",
    "dry-run": "run RECIPE --dry-run",
    "test": "eval RUN",
    "evaluate": "eval RUN",
    "compare": "report RUN RUN",
    "plot": "report RUN",
    "view": "report RUN",
    "list": "components",
    "plugin": "plugins",
    "new": "plugins new NAME --kind SLOT",
    "check": "plugins check FILE",
    "upload": "push RUN NAME",
    "config": "show RECIPE",
    "models": "run RECIPE model.path=NAME",
}


class Commands(TyperGroup):
    """A group of commands that answers another tool's word for a command with its own."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        word = args[0]
        if not word.startswith("-") and self.get_command(ctx, word) is None:
            meant = f" Did you mean rosd-kit {_COMMANDS[word]}?" if word in _COMMANDS else did_you_mean(word, self.commands)
            raise RosdError(f"there is no command {shortened(word)}.{meant} See: rosd-kit --help")
        return super().resolve_command(ctx, args)


class FieldsCommand(TyperCommand):
    """A command that takes fields of a recipe as `FIELD=VALUE`; explains those that are written as options."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # a Context of click or of typer, by version
        try:
            return super().parse_args(ctx, args)
        except Exception as error:
            option = getattr(error, "option_name", None)
            if type(error).__name__ != "NoSuchOption":
                raise
            from rosd_kit.recipe.nearest_option import option_in_words

            if (meant := option_in_words(str(option))) is None:
                raise
            raise RosdError(f"{option}: rosd-kit {ctx.info_name} has no such option. {meant}") from None


RecipeArgument = Annotated[
    str,
    typer.Argument(
        metavar="RECIPE",
        help="A recipe file, or the name of a shipped recipe, for example rosd.",
        autocompletion=completion.recipes,
    ),
]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="FIELD=VALUE",
        help="Changes, for example steps=50 localizer=full.",
        autocompletion=completion.changes,
    ),
]
Profile = Annotated[
    str | None,
    typer.Option(
        help="Where to run: micro, micro-reasoning, smol, one-gpu, paper-4b, paper-8b, a file, or none. "
        "Wins over the recipe's own.",
        autocompletion=completion.profiles,
    ),
]
PluginFiles = Annotated[
    list[Path] | None, typer.Option("--plugin", metavar="FILE", help="Also load this plugin file. Repeatable.")
]

TrustRecipe = Annotated[
    bool,
    typer.Option("--trust-recipe", help="This time, let all files of the recipe set options that need trust. Read them first."),
]


def load_plugins(
    context: typer.Context,
    files: Sequence[Path] | None,
    *,
    warn: bool = True,
    lists: bool = False,
    recipe: str | None = None,
) -> PluginManager:
    """Return the plugins with these files added and all components loaded; report broken ones on stderr.

    The plugin files that `recipe` was written with are added too, if it is trusted and they have not changed. Commands that
    only list or show set `lists`: they need no torch unless a plugin does.
    """
    manager: PluginManager = context.obj
    if lists:
        defer(*HEAVY)
    else:
        _say_loading(context)
    to_load = [*(files or ()), *(_recorded(recipe, files or ()) if recipe is not None else ())]
    if to_load and not lists:
        import torch  # noqa: F401  (the command needs it, so that no plugin is called slow for importing it)
    for file in to_load:
        manager.load_file(file)
    manager.load_components()
    if warn:
        for report in manager.broken:
            print(f"warning: plugin {report} is left out: {report.reason}", file=sys.stderr)
        for report in manager.reports:
            for note in report.notes:
                print(f"warning: plugin {report}: {note}", file=sys.stderr)
        for report in manager.slow:
            print(f"warning: plugin {report} is slow: its import took {report.seconds:.1f} s", file=sys.stderr)
    return manager


def _say_loading(context: typer.Context) -> None:
    """Say on a terminal what takes the first seconds of a command that needs torch, and much longer on a busy machine."""
    if any(context.params.get(option) for option in ("quiet", "json")) or os.environ.get("RANK", "0") != "0":
        return
    if sys.stderr.isatty() and "torch" not in sys.modules:
        print("loading PyTorch ...", file=sys.stderr, flush=True)


def _recorded(recipe: str, files: Sequence[Path]) -> Iterator[Path]:
    """Yield the plugin files that a recipe was written with, but for those that the user gives; warn of changed ones."""
    from rosd_kit.recipe.plugin_files import recorded_plugins, to_load

    given = {file.name: file.expanduser().resolve() for file in files}
    for recorded in recorded_plugins(recipe):
        file, warning = to_load(recorded, given)
        if warning:
            print(f"warning: {warning}", file=sys.stderr)
        if file is not None:
            yield file


def load(
    manager: PluginManager, recipe: str, overrides: Sequence[str] | None, profile: str | None, *, trust: bool = False
) -> Resolution:
    """Resolve the recipe that a command's arguments describe.

    Raises `NotTrusted` for values of files that may not set them, unless the person trusts this recipe.
    """
    from rosd_kit.recipe.trust import check_trust

    resolution = inspect(manager, recipe, overrides, profile)
    if not trust:
        check_trust(resolution.asks, manager.registry)
    return resolution


def inspect(manager: PluginManager, recipe: str, overrides: Sequence[str] | None, profile: str | None) -> Resolution:
    """Resolve a recipe for a command that only shows it, whoever wrote it."""
    from rosd_kit.recipe import resolve_recipe

    return resolve_recipe(recipe, overrides or (), profile, registry=manager.registry)
