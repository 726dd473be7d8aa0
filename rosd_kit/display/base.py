"""What a display is told during a run. The base class shows nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from rosd_kit.evaluation.results import Comparison, SuiteResult


@dataclass(frozen=True, kw_only=True)
class RunSummary:
    """What is told at the end of a run. `localisation` counts outcomes against the oracle over the whole run."""

    name: str
    folder: str
    steps: int
    seconds: float
    comparisons: tuple[Comparison, ...] = ()
    localisation: Mapping[str, float] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    next_steps: tuple[str, ...] = ()


class Display:
    """Shows nothing; subclasses show what they want of what they are told."""

    def start(self, title: str, facts: Mapping[str, str], steps: int, done: int) -> None:
        """The run begins, or goes on after `done` of `steps` steps."""

    def phase(self, name: str) -> None:
        """The run is now busy with this."""

    def waiting(self, text: str) -> None:
        """Something takes long, and this is what is waited for; also told before `start`."""

    def step(self, step: int, metrics: Mapping[str, float]) -> None:
        """A step is finished; `step` counts from 1."""

    def evaluation(self, step: int, results: Sequence[SuiteResult]) -> None:
        """The student was measured after so many steps."""

    def measured(self, subject: str, step: int | None, results: Sequence[SuiteResult]) -> None:
        """A model was measured without training it; `step` is how many steps of a run it has had, where that is known."""

    def compared(self, subject: str, against: str, comparisons: Sequence[Comparison]) -> None:
        """Two models were measured on the same problems; differences are `subject` minus `against`."""

    def warning(self, text: str) -> None:
        """Something deserves attention."""

    def finish(self, summary: RunSummary) -> None:
        """The run is over."""

    def close(self) -> None:
        """Give the terminal back; called once, also after an error."""
