"""A teacher between the reference policy and the informed teacher. It does not know how the student stores its weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Literal

from pydantic import Field

import rosd_kit as rk

rosd_kit_api = 2


class BetaTeacher(rk.Teacher):
    """Scores with the policy that maximises the informed teacher's reward under beta times a KL to the reference.

    target = ref^(1 - 1/beta) T^(1/beta), normalised, which is a weighted sum of logits. The reference reads the student's own
    prompt; T reads the teacher's prompt. beta = 1 is OPSD, beta > 1 stays closer to the reference,
    beta < 1 goes beyond the teacher. Source: beta-OPSD (arXiv 2607.28582). Its return-to-go credit is not implemented: it
    serves the sampled-token estimate, while full distributions give every token its exact gradient.
    """

    name = "beta_opsd"

    class Config(rk.Teacher.Config):
        """The target, and the weights that read the teacher's prompt."""

        beta: float = Field(default=2.0, gt=0.0)
        """Weight of the KL to the reference, in units of the teacher's reward."""
        share: float | None = Field(default=None, gt=0.0)
        """Share of the informed side in the logits, 1/beta, if written instead of `beta`: 0.5 in the authors' code."""
        reference: Literal["initial", "current_student"] = "initial"
        """The weights of the reference: the run's initial ones, or the student's current ones."""
        informed: Literal["frozen", "live"] = "frozen"
        """The weights of the informed side: `frozen` are the run's initial weights, `live` the student's current ones."""

    def wants_initial(self) -> bool:
        """Return whether either side is the initial weights."""
        return bool(self.config.reference == "initial" or self.config.informed == "frozen")

    def attach(self, student: rk.Policy) -> None:
        """Do nothing: the student keeps the initial weights."""

    @contextmanager
    def scoring(self, student: rk.Policy) -> Iterator[tuple[rk.TeacherModel, ...]]:
        """Yield the informed side with share 1/beta and, unless beta is 1, the reference with the remaining share."""
        share = 1.0 / self.config.beta if self.config.share is None else self.config.share
        frozen = self.config.informed == "frozen"
        informed = rk.initial_teacher(student, share) if frozen else rk.TeacherModel(student.model, share)
        initial = self.config.reference == "initial"
        other = rk.initial_teacher(student, 1.0 - share) if initial else rk.TeacherModel(student.model, 1.0 - share)
        reference = replace(other, plain=True)
        yield (informed,) if share == 1.0 else (informed, reference)


@rk.hookimpl
def rosd_kit_components() -> list[type[rk.Component]]:
    """Return the components of this package."""
    return [BetaTeacher]
