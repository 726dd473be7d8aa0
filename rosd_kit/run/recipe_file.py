"""Writes a run's own recipe, and remembers outside its folder that it was started here, with the trust that it had."""

from __future__ import annotations

import json
from collections.abc import Callable

from rosd_kit.errors import RecipeError
from rosd_kit.files import read_json_object
from rosd_kit.plugins.registry import Registry
from rosd_kit.recipe import Recipe, Resolution, to_values, to_yaml
from rosd_kit.recipe.origins import origins_record
from rosd_kit.recipe.plugin_files import plugin_files_of
from rosd_kit.recipe.trust import asks_of_values
from rosd_kit.recipe.trust_store import remember_run
from rosd_kit.run.folder import ORIGINS, RECIPE, RunFolder


def write_origins(folder: RunFolder, recipe: Recipe, resolution: Resolution, registry: Registry) -> None:
    """Write `origins.json`: where each value of the run's recipe comes from. Only the main rank calls this."""
    record = origins_record(recipe, resolution, registry, read_json_object(folder.path / ORIGINS))
    folder.write_text(ORIGINS, json.dumps(record, indent=1, ensure_ascii=False) + "\n")


def write_recipe(folder: RunFolder, recipe: Recipe, registry: Registry, warn: Callable[[str], None]) -> None:
    """Write `recipe.yaml`. If it has values that need trust, remember its content first, so that the run can resume with it.

    A run whose trust cannot be remembered goes on with a warning: `--resume` will ask again. Only the main rank calls this.
    """
    plugins = plugin_files_of(recipe, registry)
    text = to_yaml(recipe, plugins)
    if plugins or asks_of_values(to_values(recipe), registry):
        try:
            remember_run(folder.path, text)
        except RecipeError as error:
            warn(f"{error} Until then, --resume of this run needs --trust-recipe.")
    folder.write_text(RECIPE, text)
