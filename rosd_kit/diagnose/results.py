"""What a diagnosis found, as values, and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from rosd_kit.diagnose.imitation import Imitation
from rosd_kit.diagnose.tables import RegionRow, SignalRow
from rosd_kit.types import JsonObject


@dataclass(frozen=True, kw_only=True)
class ArmResult:
    """One context under one teacher, with or without a placebo; `signals` has a row per measure of the loss.

    `imitation` is None where the teacher was not asked to write.
    """

    context: str
    placebo: str
    teacher: str
    regions: Sequence[RegionRow]
    signals: Sequence[SignalRow]
    imitation: Imitation | None = None

    @property
    def name(self) -> str:
        """The context's name, with the placebo in brackets."""
        return f"{self.context} ({self.placebo})" if self.placebo else self.context

    def region(self, name: str) -> RegionRow | None:
        """Return the row of a region, None if no token is in it."""
        return next((row for row in self.regions if row.region == name), None)


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What sampling and reflecting cost. Accuracies are NaN where the truth is not known or nothing was asked."""

    reflector: str
    reflections: int
    reflection_tokens: float
    rollout_tokens: float
    reflection_seconds: float
    rollout_seconds: float
    quote_right: float
    idea_right: float


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """What was measured of a recipe: `arms` starts with the recipe's own context and teacher.

    `located_by` counts, over the wrong rollouts, who said where the first error is: `oracle`, `localizer` or `nobody`.
    """

    recipe: str
    model: str
    step: int | None
    localizer: str
    loss: str
    right: int
    wrong: int
    located_by: dict[str, int]
    arms: Sequence[ArmResult]
    cost: Cost
    notes: Sequence[str] = ()

    def to_json(self) -> JsonObject:
        """Return the diagnosis as plain values."""
        return asdict(self)
