"""A resolved recipe: every value set and checked, every slot filled with a name and valid options.

It knows the fields and nothing of how they were written, merged or found.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, SerializeAsAny

from rosd_kit.contracts import SLOTS, Config
from rosd_kit.settings import CoreSettings


class ComponentChoice(Config):
    """What a slot was filled with; `options` is an instance of that component's own `Config`."""

    name: str
    """The component's name."""
    options: SerializeAsAny[Config] = Config()
    """Its validated options."""


class ObjectiveChoice(ComponentChoice):
    """One term of the loss."""

    weight: Annotated[float, Field(ge=0.0, allow_inf_nan=False)] = 1.0
    """Factor of this term in the sum."""


class Recipe(CoreSettings):
    """A complete, valid recipe; frozen, equal to another when all values are."""

    task: ComponentChoice
    """Where problems come from."""
    verifier: ComponentChoice
    """Who judges completions."""
    rollout: ComponentChoice
    """Which engine generates."""
    gate: ComponentChoice
    """Which rollouts go on."""
    demonstration: ComponentChoice
    """Which privileged text a rollout is compared with."""
    reflector: ComponentChoice
    """Who finds the first error."""
    localizer: ComponentChoice
    """Which tokens carry the signal."""
    context: ComponentChoice
    """What the teacher is told."""
    teacher: ComponentChoice
    """Whose weights score."""
    support: ComponentChoice
    """Which vocabulary entries are compared."""
    divergence: ComponentChoice
    """How far the student is from the teacher."""
    correction: ComponentChoice
    """Importance weights."""
    objective: tuple[ObjectiveChoice, ...]
    """The terms of the loss."""

    def choices(self) -> tuple[tuple[str, ComponentChoice], ...]:
        """Return every (slot, choice), objectives last, in the order in which data meets them."""
        single = tuple((kind, getattr(self, kind)) for kind in SLOTS if kind != "objective")
        return single + tuple(("objective", term) for term in self.objective)
