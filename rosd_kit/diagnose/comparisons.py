"""Which contexts to measure beside a recipe's own. Knows recipes; runs nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rosd_kit.errors import RecipeError
from rosd_kit.recipe import Recipe

#: The contexts that most methods differ in.
COMPARED = ("solution", "key_idea")
Resolve = Callable[[Sequence[str]], Recipe]


def with_comparisons(resolve: Resolve, compared: Sequence[str] = COMPARED) -> tuple[Recipe, list[Recipe], list[str]]:
    """Return the recipe to diagnose, one recipe per context to compare with it, and notes on what was changed or left out.

    `resolve` returns the recipe with some changes. A slot that the compared contexts need and the recipe leaves empty is filled
    with what shows most: `demonstration=first_success`, and `reflector=oracle` where the task knows the truth. Neither changes
    what the recipe's own context shows, unless it falls back to them.
    """
    plain = resolve(())
    changes: list[str] = []
    notes: list[str] = []
    fillers = {"demonstration": "first_success", "reflector": "oracle"}
    for slot, filler in fillers.items():
        if dict(plain.choices())[slot].name != "none":
            continue
        try:
            resolve([*changes, f"{slot}={filler}"])
        except RecipeError:
            continue
        changes.append(f"{slot}={filler}")
        notes.append(f"{slot}={filler}, since the recipe has none and contexts are compared")
    recipes = []
    for context in compared:
        if context == plain.context.name:
            continue
        try:
            recipes.append(resolve([*changes, f"context={context}"]))
        except RecipeError as error:
            notes.append(f"the context {context} is left out: {str(error).splitlines()[0]}")
    return resolve(changes), recipes, notes
