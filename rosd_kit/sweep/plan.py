"""A sweep made definite: its combinations, its trials, and how it is written into the store for reports to read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rosd_kit.plugins.registry import Registry
from rosd_kit.recipe import to_yaml
from rosd_kit.sweep.axes import as_label
from rosd_kit.sweep.combinations import Cell, Cells, Skipped, value_of
from rosd_kit.sweep.designs import choose
from rosd_kit.sweep.settings import Sweep
from rosd_kit.sweep.store import Store
from rosd_kit.sweep.trial_id import Trial, digest, trials_of


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is run: the first cell is the recipe that all others are compared with. Trials of one identity are one."""

    sweep: Sweep
    cells: tuple[Cell, ...]
    skipped: tuple[Skipped, ...]
    trials: tuple[Trial, ...]

    @property
    def ids(self) -> list[str]:
        """The trials' identities, each once, in the order in which they are started."""
        return list(dict.fromkeys(trial.id for trial in self.trials))

    def labels(self, cell: Cell) -> list[str]:
        """Return what a cell has on each axis, `-` where the axis does not count in it."""
        return [_label(cell, axis.field) for axis in self.sweep.axes]

    def to_json(self) -> dict[str, Any]:
        """Return the plan as reports read it."""
        return {
            "name": self.sweep.name,
            "recipe": self.sweep.recipe,
            "profile": self.sweep.profile,
            "fixed": list(self.sweep.fixed),
            "design": asdict(self.sweep.design),
            "axes": [axis.field for axis in self.sweep.axes],
            "cells": [{"labels": self.labels(cell), "steps": cell.recipe.steps, "notes": cell.notes} for cell in self.cells],
            "trials": [{"id": trial.id, "cell": trial.cell, "seed": trial.seed} for trial in self.trials],
            "skipped": [{"settings": dict(one.settings), "reason": one.reason} for one in self.skipped],
        }


def make_plan(sweep: Sweep, registry: Registry) -> Plan:
    """Return what a sweep runs. Raises `RosdError` for every mistake in it; nothing is run or written."""
    chosen = choose(sweep, Cells(sweep, registry))
    return Plan(
        sweep=sweep,
        cells=chosen.cells,
        skipped=chosen.skipped,
        trials=trials_of(chosen.cells, sweep.seeds, registry),
    )


def write_plan(plan: Plan, store: Store, plugins: Sequence[str]) -> None:
    """Put the plan and its trials into the store; those that are there stay as they are."""
    content = plan.to_json()
    store.add(((trial.id, to_yaml(trial.recipe), trial.seed) for trial in plan.trials), plugins)
    store.add_plan(digest(content), plan.sweep.name, content)


def _label(cell: Cell, field: str) -> str:
    return as_label(cell.settings[field]) if field in cell.settings else value_of(cell.recipe, field)
