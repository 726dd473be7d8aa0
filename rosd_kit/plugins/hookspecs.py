"""The hooks that a plugin may implement.

Imports only pluggy, so that it costs nothing. No hook is called inside the computation: components are collected once, and
observers are called between steps.
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
    """Return the component classes of this plugin; called once, when a recipe or a listing first needs them."""


@hookspec
def rosd_kit_commands(app: typer.Typer) -> None:
    """Add commands to the `rosd-kit` command line; called before it is parsed, only for installed plugins."""


@hookspec
def rosd_kit_run_start(run: RunView) -> None:
    """Observe that a run is about to take its first step, or the first one after a resume."""


@hookspec
def rosd_kit_step_end(run: RunView, step: int, metrics: Mapping[str, float], samples: StepBatch) -> None:
    """Observe a finished step: its number, its metrics, and everything that was sampled, diagnosed and weighted."""


@hookspec
def rosd_kit_evaluation(run: RunView, step: int, results: Sequence[SuiteResult]) -> None:
    """Observe an evaluation: the number of steps before it and the result of every suite."""


@hookspec
def rosd_kit_run_end(run: RunView) -> None:
    """Observe the end of a run, also of a failed one."""
