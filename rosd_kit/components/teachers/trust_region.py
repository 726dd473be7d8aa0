"""A blend of the student and its initial weights as teacher. Does not know how the student keeps them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from pydantic import Field

from rosd_kit.components.teachers.frozen import initial_teacher
from rosd_kit.contracts import Policy, Teacher, TeacherModel


class TrustRegion(Teacher):
    """Logits (1-alpha) initial + alpha live: the normalised geometric mixture of the two distributions.

    `alpha` limits how far it follows the student. Source: SDPO (arXiv 2601.20802), trust-region teacher.
    """

    name = "trust_region"

    class Config(Teacher.Config):
        """Options of `trust_region`."""

        alpha: float = Field(default=0.05, ge=0.0, le=1.0)
        """Share of the live student in the logits; 0 is `frozen`, 1 is `live`."""

    def wants_initial(self) -> bool:
        """Return True: the initial weights must be kept."""
        return True

    def attach(self, student: Policy) -> None:
        """Do nothing; the student keeps the weights."""

    @contextmanager
    def scoring(self, student: Policy) -> Iterator[tuple[TeacherModel, ...]]:
        """Yield the initial weights and the live student with their shares."""
        alpha = self.config.alpha
        yield (initial_teacher(student, 1 - alpha), TeacherModel(student.model, alpha))
