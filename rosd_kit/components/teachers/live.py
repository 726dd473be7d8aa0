"""The student itself as teacher. Knows nothing of the privileged prompt that tells them apart."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rosd_kit.contracts import Policy, Teacher, TeacherModel


class Live(Teacher):
    """The student's current weights: only the prompt makes the teacher. No gradient flows through it."""

    name = "live"

    def attach(self, student: Policy) -> None:
        """Do nothing; there is nothing to keep."""

    @contextmanager
    def scoring(self, student: Policy) -> Iterator[tuple[TeacherModel, ...]]:
        """Yield the student's own network."""
        yield (TeacherModel(student.model),)
