"""The command that measures where a recipe's signal lies."""

from __future__ import annotations

import json as jsonlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rosd_kit.cli import completion
from rosd_kit.cli.common import Overrides, PluginFiles, Profile, TrustRecipe, load, load_plugins
from rosd_kit.errors import RunError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rosd_kit.recipe import Recipe

#: Where a run's folder keeps its diagnosis.
_FILE = "diagnosis.json"


def diagnose(
    context: typer.Context,
    recipe: Annotated[
        str,
        typer.Argument(
            metavar="RECIPE_OR_RUN", help="A recipe file, a shipped name, or a run's folder.", autocompletion=completion.recipes
        ),
    ],
    overrides: Overrides = None,
    profile: Profile = None,
    plugin: PluginFiles = None,
    compare: Annotated[
        list[str] | None,
        typer.Option("--compare", metavar="CONTEXT", help="A context to compare. Default: solution, key_idea."),
    ] = None,
    rollouts: Annotated[
        int | None, typer.Option(min=2, metavar="N", help="Rollouts to measure. Default: two steps, at most 96.")
    ] = None,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Also write everything as JSON.")] = None,
    trust_recipe: TrustRecipe = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> None:
    """Measure where a recipe's signal lies, before training.

    Shows how far the teacher differs from the student on the valid prefix of wrong rollouts, in the first error, after it, and
    on right rollouts; the same with placebos in place of the privileged text; what the localizer removes; how much the teacher
    repeats of what it reads; and what the reflector costs. For a run's folder, measures its newest checkpoint and keeps the
    result there as diagnosis.json.
    """
    from rich.console import Console

    from rosd_kit.diagnose.comparisons import COMPARED, with_comparisons
    from rosd_kit.diagnose.measure import diagnose as measure
    from rosd_kit.diagnose.text import show_diagnosis
    from rosd_kit.display import make_display
    from rosd_kit.files import explain_write_errors, finite
    from rosd_kit.run.evaluate import is_run

    if out is not None and not out.parent.is_dir():
        raise RunError(f"diagnose --out: there is no folder {str(out.parent)!r}. Choose another file.")
    manager = load_plugins(context, plugin)
    run = Path(recipe) if is_run(Path(recipe)) else None
    source = str(run / "recipe.yaml") if run is not None else recipe

    def resolve(changes: Sequence[str]) -> Recipe:
        return load(manager, source, [*(overrides or ()), *changes], profile, trust=trust_recipe).recipe

    resolved, compared, notes = with_comparisons(resolve, tuple(compare or COMPARED))
    display = make_display(quiet=True, json=False, live=False)
    try:
        found = measure(resolved, plugins=manager, display=display, compared=compared, rollouts=rollouts, run=run, notes=notes)
    finally:
        display.close()
    text = jsonlib.dumps(finite(found.to_json()), indent=1) + "\n"
    for file in (out, run / _FILE if run is not None else None):
        if file is not None:
            with explain_write_errors(f"diagnose --out: {str(file)!r}", "Choose another file."):
                file.write_text(text, encoding="utf-8")
    if json:
        print(text, end="")
    else:
        show_diagnosis(found, Console())
