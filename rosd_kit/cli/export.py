"""The command that writes the model of a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rosd_kit.cli import completion
from rosd_kit.cli.common import PluginFiles, TrustRecipe, load, load_plugins
from rosd_kit.errors import RunError


def export(
    context: typer.Context,
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run's folder.", autocompletion=completion.runs)],
    out: Annotated[Path, typer.Argument(metavar="DIR", help="The model's folder, which must not exist yet.")],
    step: Annotated[int | None, typer.Option(metavar="N", help="The checkpoint of this step. Default: the newest.")] = None,
    plugin: PluginFiles = None,
    trust_recipe: TrustRecipe = False,
) -> None:
    """Write the model of a run's checkpoint with its card, for transformers, vLLM or SGLang to load.

    A finished run has its last model in RUN/model already. This is for a run that is not finished, or for an earlier step.
    """
    from rosd_kit.run.export import export_checkpoint

    recipe = run / "recipe.yaml"
    if not recipe.is_file():
        raise RunError(f"export: {str(run)!r} holds no recipe.yaml. Give a run's folder, for example runs/rosd-1")
    manager = load_plugins(context, plugin, recipe=str(recipe))
    resolved = load(manager, str(recipe), (), None, trust=trust_recipe).recipe
    checkpoint = export_checkpoint(resolved, run, out, step=step)
    print(f"{checkpoint} -> {out}")
