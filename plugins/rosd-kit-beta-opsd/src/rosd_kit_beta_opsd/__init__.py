"""A target between the reference policy and the informed teacher. Knows nothing of how the student keeps its weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Literal

from pydantic import Field

import rosd_kit as rk

rosd_kit_api = 2


class BetaTeacher(rk.Teacher):
    """The optimum of a policy that is paid by the informed teacher and held to the reference by beta times a KL.

    target = ref^(1 - 1/beta) T^(1/beta), normalised, which is a weighted sum of logits. The reference is the initial weights
    on the student's own prompt; T reads the privileged prompt. beta = 1 is OPSD, beta > 1 stays nearer to the reference,
    beta < 1 goes beyond the teacher, away from it. Source: beta-OPSD (arXiv 2607.28582); its return-to-go credit is for the
    sampled-token estimate and is not part of this: with whole distributions every token has its own exact gradient.
    """

    name = "beta_opsd"

    class Config(rk.Teacher.Config):
        """How far, and whose weights read the privileged prompt."""

        beta: float = Field(default=2.0, gt=0.0, allow_inf_nan=False)
        """Weight of the KL to the reference, in units of the teacher's reward."""
        informed: Literal["frozen", "live"] = "frozen"
        """The informed side: the weights that the run began with, or the student's as they are now."""

    def wants_initial(self) -> bool:
        """Return True: the reference is the initial weights."""
        return True

    def attach(self, student: rk.Student) -> None:
        """Do nothing; the student keeps the weights."""

    @contextmanager
    def scoring(self, student: rk.Student) -> Iterator[tuple[rk.TeacherModel, ...]]:
        """Yield the informed side with share 1/beta and, unless beta is 1, the reference with the rest."""
        share = 1.0 / self.config.beta
        frozen = self.config.informed == "frozen"
        told = rk.initial_teacher(student, share) if frozen else rk.TeacherModel(student.model, share)
        reference = replace(rk.initial_teacher(student, 1.0 - share), plain=True)
        yield (told,) if share == 1.0 else (told, reference)


@rk.hookimpl
def rosd_kit_components() -> list[type[rk.Component]]:
    """Return what this package adds."""
    return [BetaTeacher]
