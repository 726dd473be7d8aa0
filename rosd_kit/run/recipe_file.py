"""Writes a run's own recipe, and remembers outside its folder that it was started here, with the trust that it had."""

from __future__ import annotations

from rosd_kit.errors import RecipeError
from rosd_kit.recipe import to_values, to_yaml
from rosd_kit.recipe.trust import asks_of_values
from rosd_kit.recipe.trust_store import remember_run
from rosd_kit.run.state import Run


def write_recipe(run: Run) -> None:
    """Write `recipe.yaml`. If it has values that need trust, remember its content first, so that the run can resume with it.

    A run whose trust cannot be remembered goes on with a warning: `--resume` will ask again.
    """
    text = to_yaml(run.recipe)
    if run.ranks.is_main and asks_of_values(to_values(run.recipe), run.reporter.plugins.registry):
        try:
            remember_run(run.folder.path, text)
        except RecipeError as error:
            run.reporter.warn(f"{error} Until then, --resume of this run needs --trust-recipe.")
    run.folder.write_text("recipe.yaml", text)
