"""Turns a sweep into a plan: its combinations and trials, and the form in which the store keeps it for reports."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from rosd_kit.plugins.registry import Registry
from rosd_kit.recipe import to_yaml
from rosd_kit.sweep.axes import label
from rosd_kit.sweep.combinations import Combination, CombinationResolver, Skipped, value_of
from rosd_kit.sweep.designs import select
from rosd_kit.sweep.origins import stored_origins
from rosd_kit.sweep.records import StoredPlan
from rosd_kit.sweep.settings import Sweep
from rosd_kit.sweep.store import Store
from rosd_kit.sweep.trial_id import Trial, digest, make_trials


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a sweep runs. The first combination is the recipe that all others are compared with."""

    sweep: Sweep
    combinations: tuple[Combination, ...]
    skipped: tuple[Skipped, ...]
    trials: tuple[Trial, ...]

    @property
    def ids(self) -> list[str]:
        """The trial ids, each once, in starting order. Trials with the same id are run once."""
        return list(dict.fromkeys(trial.id for trial in self.trials))

    def labels(self, combination: Combination) -> list[str]:
        """Return a combination's value on each axis; `-` where the axis does not apply to it."""
        return [_label(combination, axis.field) for axis in self.sweep.axes]

    def to_json(self) -> StoredPlan:
        """Return the plan as the store keeps it."""
        return {
            "name": self.sweep.name,
            "recipe": self.sweep.recipe,
            "profile": self.sweep.profile,
            "fixed": list(self.sweep.fixed),
            "design": asdict(self.sweep.design),
            "axes": [axis.field for axis in self.sweep.axes],
            "cells": [{"labels": self.labels(one), "steps": one.recipe.steps, "notes": one.notes} for one in self.combinations],
            "trials": [{"id": trial.id, "cell": trial.combination, "seed": trial.seed} for trial in self.trials],
            "skipped": [{"settings": dict(one.assignment), "reason": one.reason} for one in self.skipped],
        }


def make_plan(sweep: Sweep, registry: Registry) -> Plan:
    """Return what a sweep runs. Raises `RosdError` for every mistake in it; runs and writes nothing."""
    selection = select(sweep, CombinationResolver(sweep, registry))
    return Plan(
        sweep=sweep,
        combinations=selection.combinations,
        skipped=selection.skipped,
        trials=make_trials(selection.combinations, sweep.seeds, registry),
    )


def write_plan(plan: Plan, store: Store, plugins: Sequence[str]) -> None:
    """Add the plan and its trials to the store; trials that are already there stay unchanged."""
    content = plan.to_json()
    store.add(((trial.id, to_yaml(trial.recipe), trial.seed) for trial in plan.trials), plugins)
    seeded = bool(plan.sweep.seeds)
    resolutions = {trial.id: plan.combinations[trial.combination].resolution for trial in reversed(plan.trials)}
    store.add_origins({id: stored_origins(resolution, with_seed=seeded) for id, resolution in resolutions.items()})
    store.add_plan(digest(content), plan.sweep.name, content)


def _label(combination: Combination, field: str) -> str:
    if field in combination.assignment:
        return label(combination.assignment[field])
    return value_of(combination.recipe, field)
