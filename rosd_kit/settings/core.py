"""All fields of a recipe that are not slots."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field, PositiveInt, StringConstraints

from rosd_kit.options import Config, Fixed
from rosd_kit.settings.model import ModelSettings
from rosd_kit.settings.records import CheckpointSettings, SamplesSettings, TrackingSettings, WatchSettings
from rosd_kit.settings.sampling import MOST_PROBLEMS, MOST_SAMPLES, EvaluationSettings, Planned, SamplingSettings
from rosd_kit.settings.training import BatchSettings, OptimizerSettings, ParallelSettings
from rosd_kit.text.thinking import check_pairs


class CoreSettings(Config):
    """The fields of a recipe that are not slots."""

    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)]
    """Name of the method, used for runs and reports. By default the recipe's file name."""
    seed: Annotated[int, Fixed("every random choice of the run depends on it")] = 0
    """Seeds the problems, the samples and every other random choice."""
    steps: Annotated[PositiveInt, Fixed("it is the length of the run")]
    """Optimizer steps of the whole run."""
    problems_per_step: Annotated[Planned, Field(le=MOST_PROBLEMS)]
    """Problems per step."""
    group_size: Annotated[Planned, Field(le=MOST_SAMPLES)]
    """Rollouts per problem."""
    model: ModelSettings = ModelSettings()
    """The student."""
    sampling: SamplingSettings = SamplingSettings()
    """How training rollouts are sampled, and the token budgets."""
    optimizer: OptimizerSettings = OptimizerSettings()
    """The optimizer and its schedule."""
    batch: BatchSettings = BatchSettings()
    """How a step is cut into micro-batches that fit into memory."""
    parallel: ParallelSettings = ParallelSettings()
    """Several ranks."""
    evaluation: EvaluationSettings = EvaluationSettings()
    """Held-out evaluation."""
    checkpoint: CheckpointSettings = CheckpointSettings()
    """Checkpoints to resume from."""
    samples: SamplesSettings = SamplesSettings()
    """Records of the rollouts."""
    watch: WatchSettings = WatchSettings()
    """When to warn that the student is collapsing."""
    tracking: TrackingSettings = TrackingSettings()
    """Experiment trackers, besides the run's own folder."""
    thinking: Annotated[tuple[tuple[str, str], ...], AfterValidator(check_pairs)] = ()
    """More marks around a model's thinking, (opening, closing), beside those that are known: `[["<ponder>", "</ponder>"]]`."""
