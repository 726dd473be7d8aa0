"""A resolved recipe: every value set and checked, every slot filled with a name and valid options.

It knows the fields, not how they were written or merged.
"""

from __future__ import annotations

from typing import Literal

from pydantic import NonNegativeFloat, SerializeAsAny

from rosd_kit.contracts import SLOTS
from rosd_kit.options import Config, Schedule
from rosd_kit.settings import CoreSettings


class ComponentChoice(Config):
    """The component that fills a slot; `options` is an instance of its `Config`."""

    name: str
    """The component's name."""
    options: SerializeAsAny[Config] = Config()
    """Its validated options."""


class ObjectiveChoice(ComponentChoice):
    """One term of the loss."""

    weight: NonNegativeFloat = 1.0
    """Factor of this term in the sum."""
    denominator: Literal["own", "all"] = "own"
    """`own`: the term is a mean over its own weighted tokens; `all`: that mean times the term's share of the tokens that have a
    weight in any term, so a term with few tokens counts little."""


class Recipe(CoreSettings):
    """A complete, valid recipe. Frozen; two recipes are equal if all their values are."""

    task: ComponentChoice
    """Where problems come from."""
    verifier: ComponentChoice
    """Judges completions."""
    rollout: ComponentChoice
    """The rollout engine."""
    gate: ComponentChoice
    """Selects the rollouts to train on."""
    demonstration: ComponentChoice
    """Chooses the privileged text for each rollout."""
    reflector: ComponentChoice
    """Finds the first error and writes the corrective idea."""
    localizer: ComponentChoice
    """Sets the token weights."""
    context: ComponentChoice
    """Writes the teacher's prompt."""
    teacher: ComponentChoice
    """Whose weights score the rollouts."""
    support: ComponentChoice
    """The vocabulary entries on which student and teacher are compared."""
    divergence: ComponentChoice
    """The loss per token between student and teacher."""
    correction: ComponentChoice
    """Importance weights per token."""
    objective: tuple[ObjectiveChoice, ...]
    """The terms of the loss."""

    def choices(self) -> tuple[tuple[str, ComponentChoice], ...]:
        """Return every (slot, choice), objectives last, in the order in which data meets them."""
        single = tuple((kind, getattr(self, kind)) for kind in SLOTS if kind != "objective")
        return single + tuple(("objective", term) for term in self.objective)

    def schedules(self) -> dict[str, Schedule]:
        """Return every scheduled option by the path of its override, for example `optimizer.lr` or `objective.0.weight`."""
        single = len(self.objective) == 1
        found = {path.replace(".options.", ".", 1): schedule for path, schedule in super().schedules().items()}
        return {path.replace("objective.0.", "objective.", 1) if single else path: one for path, one in found.items()}
