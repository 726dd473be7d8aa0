"""The slots between a verified group and the teacher's prompt: gate, demonstration, reflector, localizer."""

from __future__ import annotations

import random
from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar, Literal, Protocol

from pydantic import Field

from rosd_kit.contracts.component import Component, add_options
from rosd_kit.options import Config as Options
from rosd_kit.types import (
    Case,
    Completion,
    DistillSample,
    GateDecision,
    Group,
    PolicyWeights,
    Prompt,
    Reflection,
    Rollout,
    SampleScores,
    Sampling,
    TokenWeights,
    View,
)


class Gate(Component):
    """Filters rollouts before reflection and scoring."""

    kind = "gate"

    class Config(Options):
        """Options of every gate."""

        truncated: Literal["keep", "mask", "drop"] = "keep"
        """Whether responses that were cut off at the length limit train. `keep`: like any other; `mask`: they do not, but
        count in their group; `drop`: they are left out of their group, as if they had not been sampled."""

    def __init_subclass__(cls, **options: object) -> None:
        super().__init_subclass__(**options)
        add_options(cls, Gate.Config)

    @abstractmethod
    def decide(self, group: Group) -> GateDecision:
        """Return which rollouts pass. Pure: the same group gives the same decision."""


class Demonstration(Component):
    """Chooses the privileged text for a rollout.

    `sees_batch` declares that it reads other groups than the rollout's own, so all must be sampled before it is called.
    """

    kind = "demonstration"
    sees_batch: ClassVar[bool] = False

    @abstractmethod
    def views(self, group: Group, rollout: Rollout, batch: Sequence[Group], rng: random.Random) -> tuple[View, ...]:
        """Return 0..n views; never the rollout itself. `rng` is seeded per rollout.

        With `sees_batch`, `batch` holds every group of the step, otherwise at least the rollout's own.
        """


class Generate(Protocol):
    """Generates text for a reflector: fits prompts to their token budget, tokenises and batches them."""

    def __call__(
        self, prompts: Sequence[Prompt], *, sampling: Sampling, max_prompt_tokens: int, weights: PolicyWeights
    ) -> list[Completion]: ...


class Reflector(Component):
    """Finds the first error of a rollout and writes the corrective idea."""

    kind = "reflector"

    @abstractmethod
    def reflect(self, cases: Sequence[Case], generate: Generate) -> list[Reflection]:
        """Return one reflection per case, in order. Text that cannot be parsed is a status, never an exception."""


class Localizer(Component):
    """Sets the weight of each response token in the distillation loss.

    `locates` is False for localizers that do not look for the error, so that accuracy against an oracle is meaningless.
    `refines` is True for localizers that revise their weights after student and teacher have scored the response.
    """

    kind = "localizer"
    locates: ClassVar[bool] = True
    refines: ClassVar[bool] = False

    class Config(Options):
        """Options of every localizer."""

        right: Literal["whole", "skip", "uncertain"] = "whole"
        """What of right rollouts is distilled. `whole`: what the localizer gives weight; `skip`: nothing; `uncertain`: of that,
        the tokens at which the student was least certain. It costs one more forward pass of student and teacher."""
        right_share: float = Field(default=0.2, gt=0.0, le=1.0)
        """With `right: uncertain`, the share of a right rollout's tokens to keep, rounded up: those of the highest entropy."""

    def __init_subclass__(cls, **options: object) -> None:
        super().__init_subclass__(**options)
        add_options(cls, Localizer.Config)

    @abstractmethod
    def locate(self, case: Case) -> TokenWeights:
        """Return one weight per token of `case.rollout.completion.token_ids`."""

    def refine(self, sample: DistillSample, scores: SampleScores) -> Sequence[float]:
        """Return revised weights, >= 0, for a scored response; called only if `refines` is True.

        Only tokens that `locate` gave a weight have scores. They cost one more forward pass of student and teacher.
        """
        return sample.token_weights
