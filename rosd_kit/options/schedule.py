"""A number that changes during a run, as a function of the step alone: a resumed run has the same value at the same step."""

from __future__ import annotations

import math
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt, PrivateAttr, model_validator

#: Most steps at which the values of a schedule are checked when a recipe loads.
_MOST_CHECKS = 1000


class Schedule(BaseModel):
    """A value that goes from `from` to `to` over `steps` steps and stays there.

    Steps are counted from 0: the first update has the value of step 0.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)

    start: float = Field(alias="from")
    """The first value."""
    to: float
    """The last value, from step `after` + `steps` on."""
    steps: PositiveInt
    """Number of steps from the first value to the last."""
    shape: Literal["linear", "cosine", "step"] = "linear"
    """`linear`: the same change at every step; `cosine`: slow, fast, slow along half a cosine; `step`: in equal jumps."""
    after: NonNegativeInt | None = None
    """The step at which the change begins; null: at the end of the warm-up, which is the first step if there is none."""
    warmup: NonNegativeInt = 0
    """Steps of a linear rise before: step t of N has (t + 1) / N of the first value."""
    every: PositiveInt | None = None
    """With `step`, steps from one jump to the next; null: one single jump, after `steps` steps."""

    _whole: bool = PrivateAttr(default=False)

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.after is not None and self.after < self.warmup:
            raise ValueError(
                f"after: {self.after} is before the end of the warm-up; give {self.warmup} or more, or leave it out"
            )
        if self.every is not None and self.shape != "step":
            raise ValueError(f"every: only the shape step jumps, not {self.shape}; leave it out or write shape: step")
        if self.every is not None and self.every > self.steps:
            raise ValueError(f"every: {self.every} is more than the {self.steps} steps; give at most {self.steps}")
        return self

    def whole(self) -> Self:
        """Return this schedule for an option that takes whole numbers: values are rounded to the nearest."""
        rounded = self.model_copy()
        rounded._whole = True
        return rounded

    def value(self, step: int) -> int | float:
        """Return the value at a step, counted from 0; exact at both ends."""
        return self._number(self._value(step))

    def _number(self, value: float) -> int | float:
        return round(value) if self._whole else value

    def _value(self, step: int) -> float:
        if step < self.warmup:
            return self.start * ((step + 1) / self.warmup)
        passed = step - self._begin
        if passed <= 0:
            return self.start
        if passed >= self.steps:
            return self.to
        share = passed / self.steps
        if self.shape == "cosine":
            share = 0.5 * (1.0 - math.cos(math.pi * share))
        elif self.shape == "step":
            every = self.every or self.steps
            share = passed // every * every / self.steps
        return self.start + (self.to - self.start) * share

    def checked_steps(self) -> set[int]:
        """Return the steps at which an option checks the values: all of them, or evenly spaced ones where they are many."""
        last = self._begin + self.steps
        return {*range(0, last, math.ceil(last / _MOST_CHECKS)), self._begin, last}

    def written(self) -> dict[str, object]:
        """Return the schedule as recipes write it, without what is left out."""
        optional = {"after": self.after, "warmup": self.warmup or None, "every": self.every}
        given = {name: value for name, value in optional.items() if value is not None}
        ends = {"from": self._number(self.start), "to": self._number(self.to)}
        return {**ends, "steps": self.steps, "shape": self.shape, **given}

    def __str__(self) -> str:
        """Return a short text for people; schedules with different values have different texts."""
        begin = f" from step {self.after}" if self.after else ""
        warmup = f" after a warm-up of {self.warmup}" if self.warmup else ""
        every = f" every {self.every}" if self.every else ""
        return f"{self.start:.15g} -> {self.to:.15g} over {self.steps} steps{begin}{warmup} ({self.shape}{every})"

    @property
    def _begin(self) -> int:
        return self.warmup if self.after is None else self.after
