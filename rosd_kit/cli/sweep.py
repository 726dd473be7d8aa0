"""The commands of sweeps: `rosd-kit sweep RECIPE axis=a,b` and `rosd-kit sweep report DIR`. The work is the sweep's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from rosd_kit.cli import completion
from rosd_kit.cli.common import FieldsCommand, PluginFiles, Profile, TrustRecipe, load_plugins
from rosd_kit.errors import RunError

if TYPE_CHECKING:
    from rosd_kit.sweep.settings import Design

_DEFAULT = "run"


class _Group(TyperGroup):
    """Takes `sweep RECIPE ...` for `sweep run RECIPE ...`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # a Context of click or of typer, by version
        if args and args[0] not in (*self.commands, "--help"):
            args = [_DEFAULT, *args]
        return super().parse_args(ctx, args)

    def shell_complete(self, ctx: Any, incomplete: str) -> list[Any]:
        """Offer recipes beside the commands."""
        return [*super().shell_complete(ctx, incomplete), *self.commands[_DEFAULT].params[0].shell_complete(ctx, incomplete)]

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Show the options of `sweep RECIPE` too, which is what most people look for."""
        super().format_help(ctx, formatter)
        run = self.commands[_DEFAULT]
        formatter.write("\nsweep RECIPE FIELD=VALUE,VALUE ... takes (it is sweep run):\n")
        run.format_options(typer.Context(run, info_name=_DEFAULT, parent=ctx), formatter)


class Format(StrEnum):
    """How a table is written."""

    table, csv, latex, markdown = "table", "csv", "latex", "markdown"


class Kept(StrEnum):
    """What stays of a finished trial's folder."""

    results, model, all = "results", "model", "all"


sweep = typer.Typer(
    cls=_Group,
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Try a recipe with parts swapped, and say what the differences amount to: sweep RECIPE localizer=error_quote,full",
)


@sweep.command(_DEFAULT, cls=FieldsCommand)
def run(
    context: typer.Context,
    recipe: Annotated[
        str,
        typer.Argument(
            metavar="RECIPE", help="A recipe, or a sweep file that ends in .sweep.yaml.", autocompletion=completion.recipes
        ),
    ],
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="FIELD=VALUE,VALUE",
            help="What is varied: localizer=error_quote,full seed=0..2; or fixed.",
            autocompletion=completion.changes,
        ),
    ] = None,
    pairwise: Annotated[bool, typer.Option("--pairwise", help="Enough combinations to have every pair of values.")] = False,
    one_at_a_time: Annotated[bool, typer.Option("--one-at-a-time", help="Swap one part at a time against the recipe.")] = False,
    random: Annotated[int | None, typer.Option(metavar="N", help="So many combinations, drawn at random.")] = None,
    random_seed: Annotated[int, typer.Option(help="Which combinations --random draws.")] = 0,
    profile: Profile = None,
    plugin: PluginFiles = None,
    name: Annotated[str | None, typer.Option(help="Name of the sweep's folder. Default: the recipe's or sweep's name.")] = None,
    out: Annotated[Path, typer.Option(help="Where the sweeps' folders are.")] = Path("sweeps"),
    jobs: Annotated[int | None, typer.Option(help="Trials at once. Default: one, one a GPU, or what the cluster fits.")] = None,
    threads: Annotated[
        int | None,
        typer.Option(help="Threads a trial. Default: OMP_NUM_THREADS, or cores / jobs; kept later."),
    ] = None,
    launcher: Annotated[str, typer.Option(help="Where trials run: processes, ray or slurm.")] = "processes",
    launcher_option: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="For slurm, for example partition=gpu. Repeatable.")
    ] = None,
    keep: Annotated[Kept, typer.Option(help="What stays of a finished trial besides its records.")] = Kept.model,
    retry: Annotated[bool, typer.Option("--retry", help="Try failed trials again.")] = False,
    results: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="Take the trials that are finished in it (see sweep export). Repeatable."),
    ] = None,
    lease: Annotated[float, typer.Option(help="Seconds after which a silent trial elsewhere counts as dead.")] = 60.0,
    trust_recipe: TrustRecipe = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the trials and how long they take; run none.")] = False,
) -> None:
    """Run every combination with every seed.

    Finished trials in the folder are not run again; interrupted ones continue from their checkpoints.
    """
    from rosd_kit.sweep.command import LaunchSettings, print_dry_run, run_sweep
    from rosd_kit.sweep.settings import read_sweep

    manager = load_plugins(context, plugin)
    asked = read_sweep(recipe, words or (), profile, _design(pairwise, one_at_a_time, random, random_seed), trust=trust_recipe)
    folder = out / (name or asked.name)
    if dry_run:
        print_dry_run(asked, manager, folder, jobs=jobs or 1)
        return
    launch = LaunchSettings(launcher=launcher, options=_options(launcher_option or ()), jobs=jobs, threads=threads, lease=lease)
    plugins = [str(file.resolve()) for file in plugin or ()]
    if not run_sweep(asked, manager, folder, plugins, launch, keep.value, retry=retry, finished=results or ()):
        raise typer.Exit(1)


@sweep.command(short_help="Say what came out, with paired differences.")
def report(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A sweep's folder.", autocompletion=completion.sweeps)],
    plan: Annotated[str | None, typer.Option(help="Of several sweeps in one folder, which. Default: the last.")] = None,
    format: Annotated[Format, typer.Option(help="How to write the table.")] = Format.table,
    suites: Annotated[bool, typer.Option("--suites", help="Also every suite by itself.")] = False,
    effects: Annotated[bool, typer.Option("--effects", help="What each axis changes, over all combinations.")] = False,
    within: Annotated[
        list[str] | None,
        typer.Option(metavar="AXIS", help="The effects for each value of this axis by itself. Repeatable."),
    ] = None,
    plots: Annotated[Path | None, typer.Option(metavar="DIR", help="Write plots there (needs matplotlib).")] = None,
) -> None:
    """Say what came out: means over seeds, and paired differences against the recipe.

    Differences are of the same problems and seeds, with 95 % intervals, and corrected for how many there are.
    """
    from rosd_kit.sweep.command import print_report

    print_report(
        folder,
        plan=plan,
        format=format.value,
        suites=suites,
        effects=effects or bool(within),
        within=within or (),
        plots=plots,
    )


@sweep.command(short_help="Write the results of finished trials into a file.")
def export(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A sweep's folder.", autocompletion=completion.sweeps)],
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A line of JSON a trial; compressed if it ends in .gz.")],
) -> None:
    """Write the results of finished trials into a file: for a repository, or to continue elsewhere with --results FILE."""
    from rosd_kit.sweep.command import print_export

    print_export(folder, file)


def _design(pairwise: bool, one_at_a_time: bool, random: int | None, seed: int) -> Design | None:
    from rosd_kit.sweep.settings import Design

    if pairwise + one_at_a_time + (random is not None) > 1:
        raise RunError("sweep: --pairwise, --one-at-a-time and --random exclude each other. Give one")
    if random is not None:
        if random < 1:
            raise RunError(f"--random: {random} combinations are none. Give 1 or more")
        return Design("random", random, seed)
    return Design("pairwise") if pairwise else Design("one_at_a_time") if one_at_a_time else None


def _options(words: Sequence[str]) -> Mapping[str, str]:
    found = dict(word.partition("=")[::2] for word in words)
    if empty := [name for name, value in found.items() if not value]:
        raise RunError(f"--launcher-option: {empty[0]!r} has no value. Write name=value, for example partition=gpu")
    return found
