"""A resolved recipe: every value set and checked, every slot filled with a name and valid options.

It knows the fields and nothing of how they were written, merged or found.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, PositiveInt, SerializeAsAny, StringConstraints

from rosd_kit.contracts import SLOTS, Config
from rosd_kit.settings import (
    BatchSettings,
    CheckpointSettings,
    EvaluationSettings,
    ModelSettings,
    OptimizerSettings,
    ParallelSettings,
    SamplesSettings,
    SamplingSettings,
    TrackingSettings,
    WatchSettings,
)


class CoreSettings(Config):
    """The fields of a recipe that are no slots."""

    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)]
    """Name of the method; runs and reports are called after it. The recipe's file name unless given."""
    seed: int = 0
    """Determines the problems, the samples and every random choice."""
    steps: PositiveInt
    """Optimizer steps of the whole run."""
    problems_per_step: PositiveInt
    """Problems in a step."""
    group_size: PositiveInt
    """Rollouts for each problem."""
    model: ModelSettings = ModelSettings()
    """The student."""
    sampling: SamplingSettings = SamplingSettings()
    """How training rollouts are drawn, and the token budgets."""
    optimizer: OptimizerSettings = OptimizerSettings()
    """AdamW and its schedule."""
    batch: BatchSettings = BatchSettings()
    """How a step is cut into pieces that fit the memory."""
    parallel: ParallelSettings = ParallelSettings()
    """Several processes."""
    evaluation: EvaluationSettings = EvaluationSettings()
    """Held-out evaluation."""
    checkpoint: CheckpointSettings = CheckpointSettings()
    """What is kept for resuming."""
    samples: SamplesSettings = SamplesSettings()
    """What is written of the rollouts."""
    watch: WatchSettings = WatchSettings()
    """When to warn that the student collapses."""
    tracking: TrackingSettings = TrackingSettings()
    """Where the run is logged besides its own folder."""


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
