"""The initial weights as teacher. Knows nothing of how the student keeps them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rosd_kit.contracts import Teacher, TeacherModel

if TYPE_CHECKING:
    from rosd_kit.model.student import Student


def initial_teacher(student: Student, share: float = 1.0) -> TeacherModel:
    """Return the student's initial weights as a teacher model that is switched on only while it scores."""
    with student.initial() as model:
        return TeacherModel(model, share, guard=student.initial)


class Frozen(Teacher):
    """The weights that the run began with, never updated. Source: ROSD (arXiv 2605.28014), OPSD (arXiv 2601.18734)."""

    name = "frozen"

    def wants_initial(self) -> bool:
        """Return True: the initial weights must be kept."""
        return True

    def attach(self, student: Student) -> None:
        """Do nothing; the student keeps the weights."""

    @contextmanager
    def scoring(self, student: Student) -> Iterator[tuple[TeacherModel, ...]]:
        """Yield the initial weights."""
        yield (initial_teacher(student),)
