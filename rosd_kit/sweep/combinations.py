"""From settings of the axes to resolved recipes: what is possible, what is left out and why.

An option of a part that is not chosen in a combination does not count there: with `localizer=error_quote,full` the axis
`localizer.boundary` varies the first only. Everything is resolved and checked here; nothing is run.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from rosd_kit.contracts import SLOTS
from rosd_kit.errors import RecipeError
from rosd_kit.plugins.registry import Registry
from rosd_kit.recipe import Recipe, load_recipe, to_values
from rosd_kit.sweep.axes import Axis, as_label
from rosd_kit.sweep.settings import Sweep, applying, overrides

Settings = Mapping[str, str]
_MOST_TRIED = 2000


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One combination: the settings of the axes that count in it, its resolved recipe, and what rules added."""

    settings: Settings
    recipe: Recipe
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Skipped:
    """One combination that is not run, and the reason."""

    settings: Settings
    reason: str


class Cells:
    """Resolves the combinations of a sweep, each at most once."""

    def __init__(self, sweep: Sweep, registry: Registry) -> None:
        self._sweep = sweep
        self._registry = registry
        self._resolved: dict[tuple[tuple[str, str], ...], Cell | Skipped] = {}
        self._bases: dict[str, Recipe] = {}

    def baseline(self) -> Cell:
        """Return the recipe itself with what is fixed. Raises `RecipeError` when it cannot be loaded."""
        found = self._resolve({})
        if isinstance(found, Skipped):
            raise RecipeError(found.reason)
        return found

    def at(self, settings: Settings) -> Cell | Skipped:
        """Return the combination, or why it is left out."""
        key = tuple(sorted(settings.items()))
        if key not in self._resolved:
            self._resolved[key] = self._resolve(settings)
        return self._resolved[key]

    def check_values(self) -> None:
        """Raise `RecipeError` for every value of an axis that is possible in no combination at all."""
        faults = []
        for axis in self._sweep.axes:
            for value in axis.values:
                first = self.at({axis.field: value})
                if isinstance(first, Skipped) and not any(map(self._possible, self._around(axis, value))):
                    faults.append(f"{axis.field}={as_label(value)} is possible in no combination: {first.reason}")
        if faults:
            raise RecipeError("\n".join(faults))

    def _possible(self, settings: Settings) -> bool:
        return isinstance(self.at(settings), Cell)

    def _around(self, axis: Axis, value: str) -> Iterator[Settings]:
        """Return combinations with one value, those with few other settings first."""
        others = [other for other in self._sweep.axes if other is not axis]
        pairs = ({axis.field: value, other.field: text} for other in others for text in other.values)
        return itertools.islice(itertools.chain(pairs, ({**rest, axis.field: value} for rest in product(others))), _MOST_TRIED)

    def _resolve(self, settings: Settings) -> Cell | Skipped:
        rules = applying(self._sweep.rules, dict(settings))
        if skip := next((rule for rule in rules if rule.skip), None):
            return Skipped(settings=settings, reason=f"by rule: {skip.because}")
        added = [word for rule in rules for word in overrides(rule.set)]
        recipe = settings.get("recipe", self._sweep.recipe)
        varied = [f"{field}={value}" for field, value in settings.items() if field != "recipe"]
        words = [*self._sweep.fixed, *varied, *added]
        try:
            counting = [word for word in words if self._counts(word, words, recipe)]
            loaded = load_recipe(recipe, counting, self._sweep.profile, registry=self._registry)
        except RecipeError as error:
            return Skipped(settings=settings, reason=str(error))
        return Cell(
            settings={f: v for f, v in settings.items() if f == "recipe" or f"{f}={v}" in counting},
            recipe=loaded,
            notes=tuple(f"{', '.join(overrides(rule.set))}: {rule.because}" for rule in rules),
        )

    def _counts(self, word: str, words: Sequence[str], recipe: str) -> bool:
        """Return whether a word says something about this combination; one that is misspelt does, for it must be told."""
        slot, dot, option = word.partition("=")[0].partition(".")
        if not dot or slot not in SLOTS or slot == "objective" or option == "name":
            return True
        chosen, option = self._chosen(slot, words, recipe), option.partition(".")[0]
        return option in self._options(slot, chosen) or not any(option in self._options(slot, n) for n in self._names(slot))

    def _chosen(self, slot: str, words: Sequence[str], recipe: str) -> str:
        said = [name for word in words if (name := _named(word, slot))]
        return said[-1] if said else self._unchanged(recipe, slot)

    def _names(self, slot: str) -> set[str]:
        """Return every component that the sweep may put into a slot."""
        recipes = [self._sweep.recipe, *(v for axis in self._sweep.axes if axis.field == "recipe" for v in axis.values)]
        varied = [f"{axis.field}={value}" for axis in self._sweep.axes for value in axis.values]
        said = {name for word in (*self._sweep.fixed, *varied) if (name := _named(word, slot))}
        return said | {self._unchanged(recipe, slot) for recipe in recipes}

    def _options(self, slot: str, name: str) -> Mapping[str, Any]:
        return self._registry.get(slot, name).Config.model_fields

    def _unchanged(self, recipe: str, slot: str) -> str:
        """Return which component a recipe has in a slot of itself."""
        if recipe not in self._bases:
            self._bases[recipe] = load_recipe(recipe, (), self._sweep.profile, registry=self._registry)
        name: str = getattr(self._bases[recipe], slot).name
        return name


def product(axes: Sequence[Axis]) -> Iterator[dict[str, str]]:
    """Return every combination of the axes' values, the last axis changing fastest."""
    for values in itertools.product(*(axis.values for axis in axes)):
        yield {axis.field: value for axis, value in zip(axes, values, strict=True)}


def size(axes: Sequence[Axis]) -> int:
    """Return how many combinations the axes have."""
    return math.prod(len(axis.values) for axis in axes)


def combination(axes: Sequence[Axis], index: int) -> dict[str, str]:
    """Return the combination at a place of `product`, without counting up to it."""
    chosen = {}
    for axis in reversed(axes):
        index, place = divmod(index, len(axis.values))
        chosen[axis.field] = axis.values[place]
    return {axis.field: chosen[axis.field] for axis in axes}


def value_of(recipe: Recipe, field: str) -> str:
    """Return what a resolved recipe has at a field, as people read it; `-` where it has no such field."""
    if field == "recipe":
        return recipe.name
    value: Any = to_values(recipe)
    for part in field.split("."):
        if isinstance(value, list) and part.isdigit() and int(part) < len(value):
            value = value[int(part)]
        elif isinstance(value, dict) and part in value:
            value = value[part]
        else:
            return "-"
    return str(value["name"]) if isinstance(value, dict) and "name" in value else str(value)


def told(settings: Settings) -> str:
    """Return the settings in one line."""
    return " ".join(f"{field}={as_label(value)}" for field, value in settings.items()) or "the recipe itself"


def _named(word: str, slot: str) -> str | None:
    """Return which component an override puts into a slot, if it does."""
    field, _, text = word.partition("=")
    if field not in (slot, f"{slot}.name"):
        return None
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        return None
    name = value.get("name") if isinstance(value, dict) else value
    return name if isinstance(name, str) else None
