"""The interface of displays: the events of a run. The base class shows nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from rosd_kit.evaluation.results import Comparison, SuiteResult


@dataclass(frozen=True, kw_only=True)
class RunSummary:
    """The result of a run.

    `localisation` holds the oracle's counts, `rollouts` the numbers of all, of truncated and of trained rollouts, all summed
    over the whole run.
    """

    name: str
    folder: str
    steps: int
    seconds: float
    comparisons: tuple[Comparison, ...] = ()
    localisation: Mapping[str, float] = field(default_factory=dict)
    rollouts: Mapping[str, float] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    next_steps: tuple[str, ...] = ()


class Display:
    """Receives the events of a run and ignores them. Subclasses override the events they show."""

    def start(self, title: str, facts: Mapping[str, str], steps: int, done: int) -> None:
        """The run starts, or resumes after `done` of `steps` steps."""

    def phase(self, name: str) -> None:
        """The run enters a phase, for example `generate`."""

    def waiting(self, text: str) -> None:
        """The run waits for something slow that `text` describes; may also be called before `start`."""

    def step(self, step: int, metrics: Mapping[str, float]) -> None:
        """A step is finished; `step` counts from 1."""

    def evaluation(self, step: int, results: Sequence[SuiteResult]) -> None:
        """The student was evaluated after `step` steps."""

    def measured(self, subject: str, step: int | None, results: Sequence[SuiteResult]) -> None:
        """A model was evaluated without training; `step` is the number of training steps it has had, if known."""

    def compared(self, subject: str, against: str, comparisons: Sequence[Comparison]) -> None:
        """Two models were evaluated on the same problems; differences are `subject` minus `against`."""

    def warning(self, text: str) -> None:
        """Something needs the user's attention."""

    def finish(self, summary: RunSummary) -> None:
        """The run is over."""

    def close(self) -> None:
        """Restore the terminal. Called once, also after an error."""
