"""The commands run and eval: parse arguments and call the loop or the evaluation."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rosd_kit.cli import completion
from rosd_kit.cli.common import Overrides, PluginFiles, Profile, TrustRecipe, load, load_plugins
from rosd_kit.errors import RunError

INTERRUPTED = 130
"""The exit code of a run that stopped before its last step, as of a program that an interrupt ended."""
Quiet = Annotated[bool, typer.Option("--quiet", help="Print only the result.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object per step instead of the live display.")]


def run(
    context: typer.Context,
    recipe: Annotated[
        str | None,
        typer.Argument(
            metavar="RECIPE", help="A recipe file or a shipped name; not with --resume.", autocompletion=completion.recipes
        ),
    ] = None,
    overrides: Overrides = None,
    profile: Profile = None,
    plugin: PluginFiles = None,
    name: Annotated[str | None, typer.Option(help="Name of the run's folder. Default: the recipe's name and a number.")] = None,
    out: Annotated[Path, typer.Option(help="The folder for runs.")] = Path("runs"),
    resume: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Continue this run; only its steps and what it writes can be changed.",
            autocompletion=completion.runs,
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything and show one sample end to end; train nothing.")
    ] = False,
    trust_recipe: TrustRecipe = False,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Train with a recipe."""
    recipe, changes = _resumed(resume, recipe, overrides, profile) if resume else (recipe, overrides)
    manager = load_plugins(context, plugin, recipe=recipe)
    if recipe is None:
        raise RunError("run: no recipe given. Write rosd-kit run RECIPE, for example rosd-kit run rosd, or --resume DIR")
    resolution = load(manager, recipe, changes, profile, trust=trust_recipe)
    resolved = resolution.recipe
    if dry_run:
        from rosd_kit.run.dry_run import rehearse

        rehearse(resolved, manager)
        return
    from rosd_kit.display import make_display
    from rosd_kit.run.loop import run_recipe

    display = make_display(quiet=quiet, json=json)
    outcome = run_recipe(resolved, plugins=manager, out=out, name=name, resume=resume, display=display, resolution=resolution)
    if not outcome.finished:
        raise typer.Exit(INTERRUPTED)


def evaluate(
    context: typer.Context,
    subject: Annotated[
        str,
        typer.Argument(
            metavar="RUN_OR_MODEL", help="A run's folder, a model's folder, or a hub name.", autocompletion=completion.runs
        ),
    ],
    overrides: Overrides = None,
    recipe: Annotated[
        str | None,
        typer.Option(help="Whose task and settings to use. Default: the run's, or rosd.", autocompletion=completion.recipes),
    ] = None,
    profile: Profile = None,
    plugin: PluginFiles = None,
    against: Annotated[
        str | None,
        typer.Option(
            metavar="RUN_OR_MODEL",
            help="Measure this one too and report the paired difference.",
            autocompletion=completion.runs,
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Also write all results as JSON.")] = None,
    inspect: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Also write every response there, as logs for `inspect view`.")
    ] = None,
    trust_recipe: TrustRecipe = False,
    quiet: Quiet = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object per model, and one for the comparison.")] = False,
) -> None:
    """Measure a run or a model on every suite.

    For a run, measures its newest checkpoint, or its exported model if no checkpoint was kept. The recipe defines the suites
    and how answers are sampled.
    """
    from rosd_kit.display import make_display
    from rosd_kit.run.evaluate import evaluate_model, is_run

    what = recipe or (str(Path(subject) / "recipe.yaml") if is_run(Path(subject)) else "rosd")
    manager = load_plugins(context, plugin, recipe=what)
    resolved = load(manager, what, overrides, profile, trust=trust_recipe).recipe
    for run in (Path(one) for one in (subject, against) if one is not None):
        if is_run(run):  # its model is loaded as its own recipe says
            load(manager, str(run / "recipe.yaml"), (), None, trust=trust_recipe)
    display = make_display(quiet=quiet, json=json, live=False)
    evaluate_model(resolved, plugins=manager, subject=subject, display=display, against=against, out=out, inspect=inspect)


def _resumed(folder: Path, recipe: str | None, overrides: list[str] | None, profile: str | None) -> tuple[str, list[str]]:
    """Return the run's own recipe and the changes to it; the loop refuses changes that would alter its numbers."""
    from rosd_kit.run.given import GivenComponents

    changes = [change for change in [recipe, *(overrides or ())] if change is not None]
    if profile is not None or any("=" not in change for change in changes):
        raise RunError("run --resume: the run keeps its own recipe and profile. Give only changes, for example steps=200")
    if not (folder / "recipe.yaml").is_file():
        raise RunError(f"run --resume: {str(folder)!r} holds no recipe.yaml. Give a run's folder, for example runs/rosd-1")
    GivenComponents().check_resumed(folder)
    return str(folder / "recipe.yaml"), changes
