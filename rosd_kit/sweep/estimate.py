"""Estimates how long the rest of a sweep takes, from finished trials or from two steps timed on the spot."""

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
    """Return one line with the time that the unfinished trials will take, `jobs` at a time, and the basis of the estimate."""
    left = [id for id in plan.ids if id not in rows or rows[id].state != "finished"]
    if not left:
        return "all trials are finished"
    recipes = {trial.id: trial.recipe for trial in plan.trials}
    per_step = seconds_per_step(plan, rows)
    if per_step:
        median = statistics.median(per_step.values())
        by_trial = {trial.id: per_step.get(trial.combination, median) for trial in plan.trials}
        total = sum(by_trial[id] * recipes[id].steps for id in left)
        basis = f"the finished trials of {len(per_step)} of {len(plan.combinations)} combinations"
    else:
        timed = time_steps(plan.combinations[0].recipe, manager)
        total = sum(timed.trial_seconds(recipes[id]) for id in left)
        basis = f"{_STEPS} steps and one evaluation of the recipe itself, timed just now; variants may be slower or faster"
    return f"{len(left)} trials left: about {duration(total / min(jobs, len(left)))} with {jobs} at once. Based on {basis}."


def seconds_per_step(plan: Plan, rows: Mapping[str, Row]) -> dict[int, float]:
    """Return a whole trial's time divided by its steps: the median over uninterrupted trials, by combination."""
    times: dict[int, list[float]] = {}
    for trial in plan.trials:
        result = rows[trial.id].result if trial.id in rows else None
        if result is not None and not result["resumed"]:
            times.setdefault(trial.combination, []).append(result["seconds"] / trial.recipe.steps)
    return {combination: statistics.median(seconds) for combination, seconds in times.items()}


class Stopwatch(Display):
    """Adds up the seconds that a run spends in each phase."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._phase, self._since = "starting", time.monotonic()

    def phase(self, name: str) -> None:
        now = time.monotonic()
        self.seconds[self._phase] = self.seconds.get(self._phase, 0.0) + now - self._since
        self._phase, self._since = name, now

    def trial_seconds(self, recipe: Recipe) -> float:
        """Return how long a trial takes if its steps and evaluations take as long as the timed ones.

        The evaluation before training is shared between trials and not counted.
        """
        evaluations = 1 + (recipe.steps - 1) // recipe.evaluation.every if recipe.evaluation.every else 1
        outside_steps = ("starting", "loading", "evaluate")
        step = sum(seconds for phase, seconds in self.seconds.items() if phase not in outside_steps) / _STEPS
        return self.seconds.get("loading", 0.0) + step * recipe.steps + self.seconds.get("evaluate", 0.0) * evaluations


def time_steps(recipe: Recipe, manager: PluginManager) -> Stopwatch:
    """Time a few steps of a recipe and one evaluation, in a temporary folder and without trackers."""
    from rosd_kit.run.loop import run_recipe

    short = recipe.model_copy(
        update={
            "steps": _STEPS,
            "evaluation": recipe.evaluation.model_copy(update={"every": 0}),
            "samples": recipe.samples.model_copy(update={"every": 0}),
            "tracking": recipe.tracking.model_copy(update={"to": []}),
        }
    )
    stopwatch = Stopwatch()
    with tempfile.TemporaryDirectory() as out:
        run_recipe(
            short, plugins=manager, out=Path(out), name="timed", resume=None, display=stopwatch, baseline=lambda *unused: ()
        )
    stopwatch.phase("over")
    return stopwatch
