"""The slot `task`: where problems come from."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable

from rosd_kit.contracts.component import Component
from rosd_kit.types import FirstError, Problem

#: Tells why a problem's right answer cannot be reached, or None: a verifier's `check_gold`.
GoldCheck = Callable[[Problem], "str | None"]


class Task(Component):
    """Supplies problems. Stateless: the same arguments give the same problems, so resuming needs no cursor.

    `may_repeat` declares that steps and suites may share problems because there are few.
    """

    kind = "task"
    may_repeat: bool = False

    @abstractmethod
    def train_batch(self, *, step: int, count: int, seed: int) -> list[Problem]:
        """Return the `count` training problems of one step; ids must be unique within the step."""

    @abstractmethod
    def suites(self, *, count: int, seed: int) -> dict[str, list[Problem]]:
        """Return the held-out problems by suite name, in-domain suites first, at most `count` per suite."""

    def in_domain(self) -> frozenset[str]:
        """Return the names of the suites that measure the trained domain; the others are out of domain."""
        return frozenset()

    def use_gold_check(self, check: GoldCheck) -> None:
        """Receive the verifier's `check_gold`; called once, before any problem is asked for.

        Override this in tasks that read data, to refuse or leave out rows whose right answer no response can reach.
        """
        return None

    def first_error(self, problem: Problem, text: str) -> FirstError | None:
        """Return the true first error of a response, or None if this task cannot know it (capability `oracle`)."""
        return None
