"""The student itself as teacher. Does not know the privileged prompt that sets them apart."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rosd_kit.contracts import Policy, Teacher, TeacherModel


class Live(Teacher):
    """The student's current weights: only the prompt sets teacher and student apart. No gradient flows through it."""

    name = "live"

    def attach(self, student: Policy) -> None:
        """Do nothing; there is nothing to keep."""

    @contextmanager
    def scoring(self, student: Policy) -> Iterator[tuple[TeacherModel, ...]]:
        """Yield the student's own network."""
        yield (TeacherModel(student.model),)
