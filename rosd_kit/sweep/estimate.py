"""How long the rest of a sweep will take, and on what that rests: finished trials, or two steps that are timed here."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from rosd_kit.display import Display
from rosd_kit.display.text import duration
from rosd_kit.plugins.manager import PluginManager
from rosd_kit.recipe import Recipe
from rosd_kit.sweep.plan import Plan
from rosd_kit.sweep.store import Row

_STEPS = 2


def estimate_time(plan: Plan, rows: Mapping[str, Row], manager: PluginManager, *, jobs: int) -> str:
    """Return in one line how long the trials that are not finished will take, `jobs` at a time."""
    left = [id for id in plan.ids if id not in rows or rows[id].state != "finished"]
    if not left:
        return "all trials are finished"
    recipes = {trial.id: trial.recipe for trial in plan.trials}
    per_step = seconds_a_step(plan, rows)
    if per_step:
        typical = statistics.median(per_step.values())
        own = {trial.id: per_step.get(trial.cell, typical) for trial in plan.trials}
        total = sum(own[id] * recipes[id].steps for id in left)
        ground = f"on the finished trials of {len(per_step)} of {len(plan.cells)} combinations"
    else:
        timed = time_steps(plan.cells[0].recipe, manager)
        total = sum(timed.trial(recipes[id]) for id in left)
        ground = (
            f"on {_STEPS} steps and one evaluation of the recipe itself, timed just now; other parts may take longer or shorter"
        )
    return f"{len(left)} trials left: about {duration(total / min(jobs, len(left)))} with {jobs} at once. This rests {ground}."


def seconds_a_step(plan: Plan, rows: Mapping[str, Row]) -> dict[int, float]:
    """Return the time of a whole trial divided by its steps, the median of those that were never interrupted, by cell."""
    found: dict[int, list[float]] = {}
    for trial in plan.trials:
        result = rows[trial.id].result if trial.id in rows else None
        if result is not None and not result["resumed"]:
            found.setdefault(trial.cell, []).append(result["seconds"] / trial.recipe.steps)
    return {cell: statistics.median(times) for cell, times in found.items()}


class Stopwatch(Display):
    """Adds up the seconds that each phase of a run takes."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._phase, self._since = "starting", time.monotonic()

    def phase(self, name: str) -> None:
        now = time.monotonic()
        self.seconds[self._phase] = self.seconds.get(self._phase, 0.0) + now - self._since
        self._phase, self._since = name, now

    def trial(self, recipe: Recipe) -> float:
        """Return how long a trial takes in which a step and an evaluation take as long as here; its first is shared."""
        evaluations = 1 + (recipe.steps - 1) // recipe.evaluation.every if recipe.evaluation.every else 1
        outside = ("starting", "loading", "evaluate")
        step = sum(seconds for phase, seconds in self.seconds.items() if phase not in outside) / _STEPS
        return self.seconds.get("loading", 0.0) + step * recipe.steps + self.seconds.get("evaluate", 0.0) * evaluations


def time_steps(recipe: Recipe, manager: PluginManager) -> Stopwatch:
    """Run a few steps of a recipe and one evaluation in a folder that is thrown away; no tracker hears of it."""
    from rosd_kit.run.loop import run_recipe

    short = recipe.model_copy(
        update={
            "steps": _STEPS,
            "evaluation": recipe.evaluation.model_copy(update={"every": 0}),
            "samples": recipe.samples.model_copy(update={"every": 0}),
            "tracking": recipe.tracking.model_copy(update={"to": []}),
        }
    )
    watch = Stopwatch()
    with tempfile.TemporaryDirectory() as out:
        run_recipe(short, plugins=manager, out=Path(out), name="timed", resume=None, display=watch, baseline=lambda *unused: ())
    watch.phase("over")
    return watch
