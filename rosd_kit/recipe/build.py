"""Builds the components of a resolved recipe. Knows no method and loads no model."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from pydantic import BaseModel

from rosd_kit.contracts import SLOTS, Component, LossParts, Objective
from rosd_kit.errors import RecipeError
from rosd_kit.faults.boundary import Boundary
from rosd_kit.plugins.registry import Registry
from rosd_kit.recipe.built import BuiltComponents, WeightedObjective
from rosd_kit.recipe.model import ComponentChoice, Recipe
from rosd_kit.recipe.validation import validated
from rosd_kit.text.thinking import Pairs


def build_components(
    recipe: Recipe, registry: Registry, given: Mapping[str, Component] = MappingProxyType({})
) -> BuiltComponents:
    """Return one component per slot, new ones except for slots in `given`, and the loss terms with what they may call."""
    boundary = Boundary()
    built: dict[str, Any] = {  # each slot's base class, by its name
        kind: _guarded(given[kind], registry, boundary)
        if kind in given
        else build_component(kind, choice, registry, recipe.thinking, boundary)
        for kind, choice in recipe.choices()
        if kind != "objective"
    }
    built["task"].use_gold_check(built["verifier"].check_gold)
    loss_parts = LossParts(support=built["support"], divergence=built["divergence"], correction=built["correction"])
    terms = []
    for term in recipe.objective:
        cls = registry.get("objective", term.name)
        assert issubclass(cls, Objective)
        objective = given.get("objective") or cls(term.options, loss_parts)
        assert isinstance(objective, Objective)
        objective.parts = loss_parts  # a given one was made without them
        _guarded(objective, registry, boundary)
        terms.append(WeightedObjective(objective, term.weight, term.denominator == "all"))
    components = BuiltComponents(**built, objectives=tuple(terms), boundary=boundary)
    for component in components:
        component.thinking = recipe.thinking
    return components


def build_component(
    kind: str, choice: ComponentChoice, registry: Registry, thinking: Pairs = (), boundary: Boundary | None = None
) -> Component:
    """Return the component of one slot. Objectives need their loss parts: use `build_components`.

    `thinking` are the recipe's own marks of thinking; components that this one consists of get them too. With a `boundary`,
    all of them are guarded.
    """
    assert kind in SLOTS and kind != "objective"

    def part(written: object) -> Component:
        values = {"name": written} if isinstance(written, str) else dict(written) if isinstance(written, Mapping) else {}
        if "name" not in values:
            raise RecipeError(
                f"{kind}: {choice.name}: {written!r} names no component. Known: {', '.join(registry.names(kind))}"
            )
        name, see = values.pop("name"), f"rosd-kit components {kind}"
        cls = registry.get(kind, name)
        options = validated(cls.Config, values, path=f"{kind}: {name}", see=f"{see} {name}", source=lambda path: choice.name)
        return _built(cls, options)

    def _built(cls: type[Component], options: BaseModel) -> Component:
        component = cls.build(options, part)
        component.thinking = thinking
        return component if boundary is None else _guarded(component, registry, boundary)

    return _built(registry.get(kind, choice.name), choice.options)


def _guarded(component: Component, registry: Registry, boundary: Boundary) -> Component:
    entry = registry.entries[component.kind].get(component.name)
    known = entry is not None and isinstance(component, entry.cls)
    origin = str(entry.origin) if entry is not None and known else f"python ({type(component).__module__})"
    boundary.guard(component, origin, is_plugin=not known or entry is None or entry.origin.distribution != "rosd-kit")
    return component
