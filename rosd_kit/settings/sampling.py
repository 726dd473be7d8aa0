"""The recipe's sections `sampling` and `evaluation`: how responses are sampled, for training and to measure."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, StringConstraints

from rosd_kit.options import Config, Fixed
from rosd_kit.types import Sampling

#: A number of vocabulary entries, 0 for all; no vocabulary has more than samplers can count.
TopK = Annotated[int, Field(ge=0, lt=1 << 31)]
#: More problems, or samples of one, no run of this kit could work on: beyond, a number is a mistake.
MOST_PROBLEMS, MOST_SAMPLES = 1 << 20, 1 << 16
#: A size by which memory is planned.
Planned = Annotated[PositiveInt, Fixed("memory is planned for it")]
_StopString = Annotated[str, StringConstraints(min_length=1)]


class SamplingSettings(Config):
    """How training rollouts are sampled."""

    temperature: PositiveFloat = 1.0
    """Softmax temperature."""
    top_p: float = Field(default=1.0, gt=0.0, le=1.0)
    """Nucleus mass; 1 samples from the full distribution."""
    top_k: TopK = 0
    """Sample among this many of the likeliest tokens; 0 among all. Applied before `top_p`."""
    min_p: float = Field(default=0.0, ge=0.0, le=1.0)
    """Sample no token that is less likely than this share of the likeliest one's probability; 0 turns it off. Applied after
    `top_p`."""
    stop: list[_StopString] = Field(default_factory=list)
    """Texts that end a response, as an end token does: `["###"]`. The text and the whole token that completes it stay in the
    response, because they are trained on."""
    max_prompt_tokens: Planned = 2048
    """Longer student prompts are never cut; they end as `overlong`."""
    max_new_tokens: Planned = 8192
    """Longest response, end token included."""
    max_teacher_prompt_tokens: Planned = 10240
    """Budget of the teacher's prompt; privileged sections are shortened to fit."""
    prefetch: Literal[0, 1] = 0
    """1: sample the next batch while the current one trains, with weights one update older (one step off-policy). Needs memory
    for another copy of the weights."""

    extra_problems: Annotated[int, Field(ge=0, le=MOST_PROBLEMS), Fixed("open groups are kept from step to step")] = 0
    """Problems that are open beyond those of a step. The step then ends when it has its groups; rollouts that are still open
    are stopped and continue in the next one (partial rollouts), so some of their tokens come from older weights."""

    def to_request(self) -> Sampling:
        """Return what a request for a rollout asks of the engine."""
        return Sampling(
            temperature=self.temperature,
            top_p=self.top_p,
            top_k=self.top_k,
            min_p=self.min_p,
            stop=tuple(self.stop),
            max_new_tokens=self.max_new_tokens,
        )


class EvaluationSettings(Config):
    """Evaluation before, during and after the run."""

    fixed_because: ClassVar[str] = "evaluations are compared with each other, so all are made alike"

    every: NonNegativeInt = 0
    """Evaluate every N steps; 0 only before and after the run."""
    problems: int = Field(default=64, ge=0, le=MOST_PROBLEMS)
    """Problems per suite; 0 turns evaluation off."""
    samples: int = Field(default=4, ge=1, le=MOST_SAMPLES)
    """Samples per problem; the metric is their mean (mean@k)."""
    temperature: NonNegativeFloat = 0.6
    """Softmax temperature; 0 is greedy."""
    top_p: float = Field(default=0.95, gt=0.0, le=1.0)
    """Nucleus mass."""
    top_k: TopK | None = None
    """Sample among this many of the likeliest tokens, 0 among all; null: `sampling.top_k`, for a schedule that of step 0."""
    min_p: float | None = Field(default=None, ge=0.0, le=1.0)
    """Least share of the likeliest token's probability; null: `sampling.min_p`, for a schedule that of step 0."""
    stop: list[_StopString] | None = None
    """Texts that end a response; null: `sampling.stop`."""
    max_new_tokens: PositiveInt | None = None
    """Longest response, end token included; null: `sampling.max_new_tokens`."""
    seed: int = 20260528
    """Chooses the held-out problems and samples. Separate from the run's seed, so that runs are comparable."""
