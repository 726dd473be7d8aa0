"""The initial weights as teacher. Knows nothing of how the student keeps them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rosd_kit.contracts import Expert, Teacher

if TYPE_CHECKING:
    from rosd_kit.model.student import Student


def initial_expert(student: Student, share: float = 1.0) -> Expert:
    """Return the student's initial weights as an expert that is switched on only while it scores."""
    with student.initial() as model:
        return Expert(model, share, guard=student.initial)


class Frozen(Teacher):
    """The weights that the run began with, never updated. Source: ROSD (arXiv 2605.28014), OPSD (arXiv 2601.18734)."""

    name = "frozen"

    def wants_initial(self) -> bool:
        """Return True: the initial weights must be kept."""
        return True

    def attach(self, student: Student) -> None:
        """Do nothing; the student keeps the weights."""

    @contextmanager
    def scoring(self, student: Student) -> Iterator[tuple[Expert, ...]]:
        """Yield the initial weights."""
        yield (initial_expert(student),)
