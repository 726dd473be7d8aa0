"""A mixture of the initial weights with and without privileged text. Does not know how the student keeps them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from pydantic import Field

from rosd_kit.components.teachers.frozen import initial_teacher
from rosd_kit.contracts import Policy, Teacher, TeacherModel


class Interpolated(Teacher):
    """Logits share * informed + (1-share) * uninformed, both from the initial weights: a target between the two.

    The sum of logits is the normalised geometric mixture informed^share * uninformed^(1-share), so `share` sets how
    far the privileged text may move the target. Source: beta-OPSD (reviewed in arXiv 2608.25936), share = 1/beta.
    """

    name = "interpolated"

    class Config(Teacher.Config):
        """Options of `interpolated`."""

        share: float = Field(default=0.5, gt=0.0, le=1.0)
        """Share of the informed logits; 1 is `frozen`."""

    def wants_initial(self) -> bool:
        """Return True: the initial weights must be kept."""
        return True

    def attach(self, student: Policy) -> None:
        """Do nothing; the student keeps the weights."""

    @contextmanager
    def scoring(self, student: Policy) -> Iterator[tuple[TeacherModel, ...]]:
        """Yield the initial weights on the teacher's prompt, and again on the student's."""
        share = self.config.share
        yield (initial_teacher(student, share), replace(initial_teacher(student, 1 - share), plain=True))
