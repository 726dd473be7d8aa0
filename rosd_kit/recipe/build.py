"""From a resolved recipe to its components. Knows no method; nothing here loads a model."""

from __future__ import annotations

from typing import Any

from rosd_kit.contracts import SLOTS, Component, LossParts
from rosd_kit.errors import RecipeError
from rosd_kit.plugins.registry import Registry
from rosd_kit.recipe.built import BuiltComponents, WeightedObjective
from rosd_kit.recipe.model import ComponentChoice, Recipe
from rosd_kit.recipe.validation import validated


def build_components(recipe: Recipe, registry: Registry) -> BuiltComponents:
    """Return one new component for each slot, and the loss terms with the parts that they may call."""
    built: dict[str, Any] = {
        kind: build_component(kind, choice, registry) for kind, choice in recipe.choices() if kind != "objective"
    }
    loss_parts = LossParts(support=built["support"], divergence=built["divergence"], correction=built["correction"])
    terms = []
    for term in recipe.objective:
        objective: Any = registry.get("objective", term.name)
        terms.append(WeightedObjective(objective(term.options, loss_parts), term.weight))
    return BuiltComponents(**built, objectives=tuple(terms))


def build_component(kind: str, choice: ComponentChoice, registry: Registry) -> Component:
    """Return the component of one slot; use `build_components` for objectives, which need parts."""
    assert kind in SLOTS and kind != "objective"

    def part(written: Any) -> Component:
        values = {"name": written} if isinstance(written, str) else dict(written)
        if "name" not in values:
            raise RecipeError(
                f"{kind}: {choice.name}: {written!r} names no component. Known: {', '.join(registry.names(kind))}"
            )
        name, see = values.pop("name"), f"rosd-kit components {kind}"
        cls = registry.get(kind, name)
        options = validated(cls.Config, values, path=f"{kind}: {name}", see=f"{see} {name}", source=lambda path: choice.name)
        return cls.build(options, part)

    return registry.get(kind, choice.name).build(choice.options, part)
