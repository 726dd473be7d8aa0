"""Resolves combinations of axis values to recipes: which are possible, which are skipped, and why.

An option of a component that a combination does not choose is ignored there: with `localizer=error_quote,full`, the axis
`localizer.boundary` varies only the first. Everything is resolved and validated here; nothing is run.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import yaml

from rosd_kit.contracts import SLOTS
from rosd_kit.errors import RecipeError
from rosd_kit.plugins.registry import Registry
from rosd_kit.recipe import Recipe, Resolution, load_recipe, resolve_recipe, to_values
from rosd_kit.recipe.layers import is_index
from rosd_kit.recipe.trust import check_trust
from rosd_kit.sweep.axes import Axis, label, label_of
from rosd_kit.sweep.origins import Words, in_words_of_sweep
from rosd_kit.sweep.settings import Sweep, matching_rules, overrides

#: A value for each axis, by field.
Assignment = Mapping[str, str]
_MAX_ATTEMPTS = 2000


@dataclass(frozen=True, kw_only=True)
class Combination:
    """A possible combination: the assignment, without ignored options, its resolved recipe, and notes from rules."""

    assignment: Assignment
    resolution: Resolution
    notes: tuple[str, ...] = ()

    @property
    def recipe(self) -> Recipe:
        """The resolved recipe."""
        return self.resolution.recipe


@dataclass(frozen=True, kw_only=True)
class Skipped:
    """A combination that is not run, and why."""

    assignment: Assignment
    reason: str


class CombinationResolver:
    """Resolves a sweep's combinations, each at most once."""

    def __init__(self, sweep: Sweep, registry: Registry) -> None:
        self._sweep = sweep
        self._registry = registry
        self._resolved: dict[tuple[tuple[str, str], ...], Combination | Skipped] = {}
        self._base_recipes: dict[str, Recipe] = {}

    def baseline(self) -> Combination:
        """Return the recipe with only the fixed overrides. Raises `RecipeError` when it cannot be loaded."""
        resolved = self._resolve({})
        if isinstance(resolved, Skipped):
            raise RecipeError(resolved.reason)
        return resolved

    def resolve(self, assignment: Assignment) -> Combination | Skipped:
        """Return the combination, or why it is skipped."""
        key = tuple(sorted(assignment.items()))
        if key not in self._resolved:
            self._resolved[key] = self._resolve(assignment)
        return self._resolved[key]

    def check_values(self) -> None:
        """Raise `RecipeError` that lists every axis value that no combination can use."""
        errors = []
        for axis in self._sweep.axes:
            for value in axis.values:
                alone = self.resolve({axis.field: value})
                if isinstance(alone, Skipped) and not any(map(self._is_possible, self._assignments_with(axis, value))):
                    errors.append(f"{axis.field}={label(value)} works in no combination: {alone.reason}")
        if errors:
            raise RecipeError("\n".join(errors))

    def _is_possible(self, assignment: Assignment) -> bool:
        return isinstance(self.resolve(assignment), Combination)

    def _assignments_with(self, axis: Axis, value: str) -> Iterator[Assignment]:
        """Yield assignments that contain one value, those that set only one other axis first."""
        others = [other for other in self._sweep.axes if other is not axis]
        pairs = ({axis.field: value, other.field: text} for other in others for text in other.values)
        whole = ({**rest, axis.field: value} for rest in product(others))
        return itertools.islice(itertools.chain(pairs, whole), _MAX_ATTEMPTS)

    def _resolve(self, assignment: Assignment) -> Combination | Skipped:
        rules = matching_rules(self._sweep.rules, assignment)
        if skip := next((rule for rule in rules if rule.skip), None):
            return Skipped(assignment=assignment, reason=f"by rule: {skip.because}")
        from_rules = [word for rule in rules for word in overrides(rule.set)]
        recipe = assignment.get("recipe", self._sweep.recipe)
        varied = [f"{field}={value}" for field, value in assignment.items() if field != "recipe"]
        words = [*self._sweep.fixed, *varied, *from_rules]
        try:
            applied = [word for word in words if self._applies(word, words, recipe)]
            written = self._sweep.written(map(_field, [*self._sweep.fixed, *varied]), map(_field, from_rules))
            resolved = resolve_recipe(recipe, applied, self._sweep.profile, registry=self._registry, written=written)
        except RecipeError as error:
            return Skipped(assignment=assignment, reason=str(error))
        if not self._sweep.trusts_files:
            check_trust(resolved.asks, self._registry)
        fields = Words(
            axes=[_field(word) for word in varied],
            rules=[_field(word) for word in from_rules],
            file=[field for field in map(_field, self._sweep.fixed) if field not in self._sweep.own_words],
        )
        return Combination(
            assignment={f: v for f, v in assignment.items() if f == "recipe" or f"{f}={v}" in applied},
            resolution=in_words_of_sweep(resolved, fields),
            notes=tuple(f"{', '.join(overrides(rule.set))}: {rule.because}" for rule in rules),
        )

    def _applies(self, word: str, words: Sequence[str], recipe: str) -> bool:
        """Return whether an override applies to this combination. A misspelt option does, so that it is reported."""
        slot, dot, option = word.partition("=")[0].partition(".")
        if not dot or slot not in SLOTS or slot == "objective" or option == "name":
            return True
        chosen, option = self._chosen_component(slot, words, recipe), option.partition(".")[0]
        if option in self._options(slot, chosen):
            return True
        return not any(option in self._options(slot, name) for name in self._possible_components(slot))

    def _chosen_component(self, slot: str, words: Sequence[str], recipe: str) -> str:
        names = [name for word in words if (name := _component_name(word, slot))]
        return names[-1] if names else self._base_component(recipe, slot)

    def _possible_components(self, slot: str) -> set[str]:
        """Return every component that the sweep may put into a slot."""
        recipes = [self._sweep.recipe, *(v for axis in self._sweep.axes if axis.field == "recipe" for v in axis.values)]
        varied = [f"{axis.field}={value}" for axis in self._sweep.axes for value in axis.values]
        names = {name for word in (*self._sweep.fixed, *varied) if (name := _component_name(word, slot))}
        return names | {self._base_component(recipe, slot) for recipe in recipes}

    def _options(self, slot: str, name: str) -> Mapping[str, object]:
        return self._registry.get(slot, name).Config.model_fields

    def _base_component(self, recipe: str, slot: str) -> str:
        """Return the component that a recipe itself has in a slot, without overrides."""
        if recipe not in self._base_recipes:
            self._base_recipes[recipe] = load_recipe(recipe, (), self._sweep.profile, registry=self._registry)
        name: str = getattr(self._base_recipes[recipe], slot).name
        return name


def _field(word: str) -> str:
    return word.partition("=")[0]


def product(axes: Sequence[Axis]) -> Iterator[dict[str, str]]:
    """Yield every assignment of the axes; the last axis changes fastest."""
    for values in itertools.product(*(axis.values for axis in axes)):
        yield {axis.field: value for axis, value in zip(axes, values, strict=True)}


def product_size(axes: Sequence[Axis]) -> int:
    """Return how many assignments the axes have."""
    return math.prod(len(axis.values) for axis in axes)


def assignment_at(axes: Sequence[Axis], index: int) -> dict[str, str]:
    """Return the assignment that `product` yields at an index, without enumerating the ones before it."""
    values = {}
    for axis in reversed(axes):
        index, position = divmod(index, len(axis.values))
        values[axis.field] = axis.values[position]
    return {axis.field: values[axis.field] for axis in axes}


def value_of(recipe: Recipe, field: str) -> str:
    """Return the value of a field in a resolved recipe for display; `-` where the recipe has no such field."""
    if field == "recipe":
        return recipe.name
    value: object = to_values(recipe)
    for key in field.split("."):
        if isinstance(value, list) and is_index(key) and int(key) < len(value):
            value = value[int(key)]
        elif isinstance(value, dict) and key in value:
            value = value[key]
        else:
            return "-"
    return str(value["name"]) if isinstance(value, dict) and "name" in value else label_of(value)


def describe(assignment: Assignment) -> str:
    """Return an assignment in one line."""
    return " ".join(f"{field}={label(value)}" for field, value in assignment.items()) or "the recipe itself"


def _component_name(word: str, slot: str) -> str | None:
    """Return the component that an override puts into a slot, or None if it does not."""
    field, _, text = word.partition("=")
    if field not in (slot, f"{slot}.name"):
        return None
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        return None
    name = value.get("name") if isinstance(value, dict) else value
    return name if isinstance(name, str) else None
