"""The hooks that a plugin may implement: one line each.

Knows pluggy and nothing else, so that importing it costs nothing. No hook sits in the maths path: components are
handed over once, and observers are told what happened.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    import typer

    from rosd_kit.contracts import Component
    from rosd_kit.evaluation.results import SuiteResult
    from rosd_kit.plugins.run_view import RunView
    from rosd_kit.types import StepBatch

PROJECT = "rosd_kit"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def rosd_kit_components() -> Iterable[type[Component]]:  # type: ignore[empty-body]
    """Return the component classes that this plugin adds; called once, when a recipe or a listing first needs them."""


@hookspec
def rosd_kit_commands(app: typer.Typer) -> None:
    """Add commands to the `rosd-kit` command line; called before it is parsed, for installed plugins only."""


@hookspec
def rosd_kit_run_start(run: RunView) -> None:
    """Observe that a run is about to take its first step (or the first after a resume)."""


@hookspec
def rosd_kit_step_end(run: RunView, step: int, metrics: Mapping[str, float], samples: StepBatch) -> None:
    """Observe one finished step: its number, its metrics, and everything that was sampled, diagnosed and weighted."""


@hookspec
def rosd_kit_evaluation(run: RunView, step: int, results: Sequence[SuiteResult]) -> None:
    """Observe an evaluation: how many steps came before it, and the result of every suite."""


@hookspec
def rosd_kit_run_end(run: RunView) -> None:
    """Observe the end of a run, also of one that failed."""
