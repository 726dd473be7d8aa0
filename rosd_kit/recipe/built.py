"""The components of a recipe, built: one attribute per slot."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Self

from rosd_kit.contracts import (
    Component,
    Context,
    Correction,
    Demonstration,
    Divergence,
    Gate,
    Localizer,
    Objective,
    Reflector,
    RolloutEngine,
    Support,
    Task,
    Teacher,
    Verifier,
)
from rosd_kit.faults.boundary import Boundary
from rosd_kit.recipe.model import ObjectiveChoice


@dataclass(frozen=True)
class WeightedObjective:
    """One term of the loss, its factor, and whether it counts by its share of the step's weighted tokens."""

    objective: Objective
    weight: float = 1.0
    by_share: bool = False


@dataclass(frozen=True, kw_only=True)
class BuiltComponents:
    """What a recipe's slots were filled with."""

    task: Task
    verifier: Verifier
    rollout: RolloutEngine
    gate: Gate
    demonstration: Demonstration
    reflector: Reflector
    localizer: Localizer
    context: Context
    teacher: Teacher
    support: Support
    divergence: Divergence
    correction: Correction
    objectives: tuple[WeightedObjective, ...]
    boundary: Boundary = field(default_factory=Boundary)

    @property
    def distills(self) -> bool:
        """Whether any loss term needs the teacher: otherwise nothing is reflected on, localized or put into teacher prompts."""
        return any(term.objective.asks_teacher for term in self.objectives)

    @property
    def samples_initial(self) -> bool:
        """Whether anything is sampled with the initial weights; a teacher only scores with them."""
        return any(component.wants_initial() for component in self if component is not self.teacher)

    def with_weights(self, terms: Sequence[ObjectiveChoice]) -> Self:
        """Return the same components, with the weights of these loss terms."""
        weighted = [replace(built, weight=term.weight) for built, term in zip(self.objectives, terms, strict=True)]
        return replace(self, objectives=tuple(weighted))

    def __iter__(self) -> Iterator[Component]:
        """Yield every component once, objectives included."""
        for one in fields(self):
            if one.name not in ("objectives", "boundary"):
                yield getattr(self, one.name)
        yield from (term.objective for term in self.objectives)
