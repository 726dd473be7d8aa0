"""The slot `task`: where problems come from."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from pydantic import BaseModel

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

    def data_files(self) -> Iterable[Path]:
        """Return the files that problems are read from; a run refuses to resume when their content has changed.

        By default every existing file that an option names. Called once per run, after the first problems.
        """
        return _existing_files(self._config)

    def use_gold_check(self, check: GoldCheck) -> None:
        """Receive the verifier's `check_gold`; called once, before any problem is asked for.

        Override this in tasks that read data, to refuse or leave out rows whose right answer no response can reach.
        """
        return None

    def first_error(self, problem: Problem, text: str) -> FirstError | None:
        """Return the true first error of a response, or None if this task cannot know it (capability `oracle`)."""
        return None

    def traits(self, problem: Problem, text: str) -> Mapping[str, float]:
        """Return named numbers that say how a response is written, apart from whether it is right: `{"slow": 0.4}`.

        Evaluations average each over the samples of a suite that have it, so that a change of manner can be seen.
        """
        return {}


def _existing_files(value: object) -> Iterator[Path]:
    """Yield the files that a value, or any value inside it, is the path of."""
    if isinstance(value, BaseModel):
        value = dict(value)
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, (list, tuple, set, frozenset)):
        for item in value:
            yield from _existing_files(item)
    elif isinstance(value, (str, Path)):
        try:
            file = Path(value).expanduser()
            if file.is_file():
                yield file
        except (OSError, ValueError, RuntimeError):  # too long, NUL, no such user
            return
