"""The initial weights as teacher. Does not know how the student keeps them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rosd_kit.contracts import Policy, Teacher, TeacherModel


def initial_teacher(student: Policy, share: float = 1.0) -> TeacherModel:
    """Return the student's initial weights as a teacher model, active only while it scores."""
    with student.initial() as model:
        return TeacherModel(model, share, guard=student.initial, guards_head=False)


class Frozen(Teacher):
    """The run's initial weights, never updated. Source: ROSD (arXiv 2605.28014), OPSD (arXiv 2601.18734)."""

    name = "frozen"

    def wants_initial(self) -> bool:
        """Return True: the initial weights must be kept."""
        return True

    def attach(self, student: Policy) -> None:
        """Do nothing; the student keeps the weights."""

    @contextmanager
    def scoring(self, student: Policy) -> Iterator[tuple[TeacherModel, ...]]:
        """Yield the initial weights."""
        yield (initial_teacher(student),)
