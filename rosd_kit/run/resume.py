"""What may differ when a run goes on: how long it is and what it writes, nothing that its numbers depend on."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

from rosd_kit.errors import RunError
from rosd_kit.recipe import Recipe, to_values

FREE = ("steps", "evaluation", "checkpoint", "samples", "watch", "tracking", "parallel")
"""Fields of a recipe that a resumed run may change."""


def check_same(saved: Recipe, recipe: Recipe) -> None:
    """Raise `RunError` naming each field of `recipe` that would make it another run than the saved one.

    Of a part's options those that its `Config.free_on_resume` names may change too.
    """
    free = {f"{kind}.{option}" for kind, choice in recipe.choices() for option in choice.options.free_on_resume}
    before, now = dict(_fixed(saved, free)), dict(_fixed(recipe, free))
    changed = [name for name in before | now if before.get(name) != now.get(name)]
    if changed:
        listed = ", ".join(f"{name} ({before.get(name)!r} -> {now.get(name)!r})" for name in changed)
        raise RunError(f"--resume: the recipe is not the run's own: {listed}. Only {', '.join(FREE)} may change.")


def _fixed(recipe: Recipe, free: Collection[str]) -> Iterator[tuple[str, Any]]:
    for field, value in to_values(recipe).items():
        if field not in FREE:
            yield from (leaf for leaf in _leaves(field, value) if ".".join(leaf[0].split(".")[:2]) not in free)


def _leaves(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from _leaves(f"{path}.{key}", item)
    elif isinstance(value, list) and value:
        for index, item in enumerate(value):
            yield from _leaves(f"{path}.{index}", item)
    else:
        yield path, value
