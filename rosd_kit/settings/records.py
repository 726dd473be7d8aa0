"""The recipe's sections `watch`, `checkpoint`, `samples` and `tracking`: what a run says and writes."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, NonNegativeInt, PositiveInt

from rosd_kit.options import Config, Trusted


class WatchSettings(Config):
    """When a run warns that its student is collapsing; null turns a warning off. Affects nothing but warnings."""

    fixed_because: ClassVar[str] = "it compares steps with each other"

    patience: PositiveInt = 5
    """A condition must hold for this many consecutive steps; a shorter run is judged by all its steps."""
    truncated: float | None = Field(default=0.25, ge=0.0, lt=1.0)
    """Warn when more than this share of the rollouts is cut off at the length limit."""
    success: float | None = Field(default=0.2, gt=0.0, le=1.0)
    """Warn when success falls below this share of its initial value."""
    entropy: float | None = Field(default=0.2, gt=0.0, le=1.0)
    """Warn when the rollouts' entropy falls below this share of its initial value and success has not risen."""
    variety: float | None = Field(default=0.5, gt=0.0, le=1.0)
    """Warn when the variety of wrong answers falls below this share of its initial value and success has not risen."""
    length: float | None = Field(default=3.0, gt=1.0)
    """Warn when responses become longer or shorter than at first by this factor."""
    leaks: float | None = Field(default=0.02, ge=0.0, lt=1.0)
    """Warn when the share of rollouts that mention a reference they cannot know has risen by more than this."""
    pass_at_k: float | None = Field(default=0.1, gt=0.0, le=1.0)
    """Warn when pass@k of the trained suites falls by more than this and the intervals do not overlap."""
    out_of_domain: float | None = Field(default=0.05, gt=0.0, le=1.0)
    """Warn when mean@k over the other suites falls by more than this and the paired interval excludes zero."""


class CheckpointSettings(Config):
    """Checkpoints to resume from."""

    fixed_because: ClassVar[str] = "it says when to save"

    every: NonNegativeInt = 20
    """Save every N steps; 0 only at the end."""
    keep: PositiveInt = 2
    """How many checkpoints to keep, newest first."""
    background: bool | None = None
    """Write while training goes on, from a copy in the CPU's memory; null: on a GPU. A run waits for the last one."""


class SamplesSettings(Config):
    """Records of rollouts, reflections and token weights."""

    fixed_because: ClassVar[str] = "it says when to write"

    every: NonNegativeInt = 1
    """Write the samples of every N-th step; 0 writes none."""
    share: float = Field(default=1.0, gt=0.0, le=1.0)
    """Share of a step's groups whose rollouts are written, rounded up. Steps whose update was skipped are written whole."""


class TrackingSettings(Config):
    """Experiment trackers, besides the run's own folder."""

    to: Annotated[
        list[Literal["tensorboard", "trackio", "wandb", "mlflow"]],
        Trusted("can send metrics to a server, under your account", harmless=("tensorboard",)),
    ] = Field(default_factory=list)
    """Experiment trackers. `tensorboard` writes into the run's folder; so does `mlflow` unless MLFLOW_TRACKING_URI is set."""
    project: str = Field(default="rosd-kit", min_length=1)
    """Project (wandb, trackio) or experiment (mlflow) that the run belongs to."""
