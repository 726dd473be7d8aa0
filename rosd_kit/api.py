"""The kit from Python: `rosd_kit.train`, `rosd_kit.evaluate` and `rosd_kit.load_run`, for notebooks and scripts.

Both do what the commands `rosd-kit run` and `rosd-kit eval` do, with the same recipes and run folders.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from rosd_kit.contracts import Component
from rosd_kit.display import Display, make_display
from rosd_kit.errors import PluginError, RecipeError, RunError
from rosd_kit.evaluation.results import Comparison, SuiteResult, compare
from rosd_kit.plugins.manager import PluginManager
from rosd_kit.recipe import Recipe, Resolution, resolve_recipe, to_values
from rosd_kit.recipe.sources import read_yaml
from rosd_kit.run.evaluate import evaluate_model, is_run
from rosd_kit.run.given import GivenComponents, flow, python_origin
from rosd_kit.run.loop import run_recipe
from rosd_kit.run.records import METRICS, read_records
from rosd_kit.run.summary import read_evaluations
from rosd_kit.types import JsonObject

if TYPE_CHECKING:
    from pandas import DataFrame

Overrides = Mapping[str, object] | Sequence[str]
Plugin = str | Path | ModuleType | type[Component]


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """What came out of a run. `finished` is False when it was interrupted: `train(resume=result.path)` continues it.

    `before` and `after` are the evaluations of the first and of the last step, `comparisons` their paired differences;
    all are empty where they were not made.
    """

    path: Path
    steps: int
    finished: bool
    before: tuple[SuiteResult, ...]
    after: tuple[SuiteResult, ...]
    comparisons: tuple[Comparison, ...]

    @property
    def model(self) -> Path:
        """The folder of the trained model, which plain transformers loads."""
        return self.path / "model"

    @property
    def metrics(self) -> list[JsonObject]:
        """The metrics of every step, read from the run's folder."""
        return read_records(self.path / METRICS).whole

    @property
    def frame(self) -> DataFrame:
        """The same metrics as a pandas table: a row per step, a column per metric."""
        import pandas

        return pandas.DataFrame(self.metrics).set_index("step") if self.metrics else pandas.DataFrame()


@dataclass(frozen=True, kw_only=True)
class EvaluationResult:
    """The measures of a model on every suite, and with `against` the paired differences from another model."""

    results: tuple[SuiteResult, ...]
    comparisons: tuple[Comparison, ...] = ()


def train(
    recipe: str | Path | Mapping[str, object] | Recipe | None = None,
    *,
    overrides: Overrides = (),
    profile: str | None = None,
    plugins: Sequence[Plugin] = (),
    components: Mapping[str, Component] | None = None,
    out: str | Path = "runs",
    name: str | None = None,
    resume: str | Path | None = None,
    display: Display | None = None,
) -> RunResult:
    """Train by a recipe and return what came out.

    `recipe` is a shipped name, a file, a mapping of fields, or a resolved recipe. `overrides` are changes to it, as
    `{"optimizer.lr": 1e-5}` or `["optimizer.lr=1e-5"]`. `plugins` are files, modules or component classes to use besides the
    installed plugins. `components` fills slots with objects, by slot name; they are recorded by class and options, and
    resuming such a run needs them again. With `resume`, the folder of a run, that run continues by its own recipe.
    `display` shows progress; by default a terminal and a notebook get a live view, other outputs a line per step.

    Raises `RosdError` for every mistake that a user can mend.
    """
    if (recipe is None) == (resume is None):
        raise RunError("train: give either a recipe, for example train('rosd'), or resume='runs/rosd-1', and not both")
    manager, given = _manager(plugins), GivenComponents(components or {})
    given.register(manager.registry)
    changes = [*_as_words(overrides), *given.overrides()]
    if resume is not None:
        given.check_resumed(Path(resume))
        recipe = Path(resume) / "recipe.yaml"
    assert recipe is not None
    resolution = _resolved(recipe, changes, profile, manager)
    outcome = run_recipe(
        resolution.recipe,
        plugins=manager,
        out=Path(out),
        name=name,
        resume=Path(resume) if resume is not None else None,
        display=display or make_display(),
        given=given,
        resolution=resolution if resolution.provenance else None,
    )
    return _result(outcome.path, outcome.finished)


def load_run(path: str | Path) -> RunResult:
    """Return what came out of a run, from its folder, finished or not. Raises `RunError` if there is no run."""
    folder = Path(path)
    file = folder / "recipe.yaml"
    if not is_run(folder):
        raise RunError(f"load_run: {str(folder)!r} is not a run's folder (no recipe.yaml). Give one, for example runs/rosd-1")
    taken = max((record["step"] for record in read_records(folder / METRICS).whole), default=0)
    steps = read_yaml(file).get("steps")
    return _result(folder, isinstance(steps, int) and taken >= steps)


def evaluate(
    model: str | Path,
    *,
    recipe: str | Path | Mapping[str, object] | Recipe | None = None,
    overrides: Overrides = (),
    profile: str | None = None,
    plugins: Sequence[Plugin] = (),
    against: str | Path | None = None,
    display: Display | None = None,
) -> EvaluationResult:
    """Measure a run, a model's folder or a hub model on every suite of a recipe's task.

    `recipe` says which task and how answers are sampled: by default the run's own, else `rosd`. With `against`, a second model
    is measured on the same problems and compared. Raises `RosdError` for every mistake that a user can mend.
    """
    manager = _manager(plugins)
    if recipe is None:
        recipe = Path(model) / "recipe.yaml" if is_run(Path(model)) else "rosd"
    results, comparisons = evaluate_model(
        _resolved(recipe, _as_words(overrides), profile, manager).recipe,
        plugins=manager,
        subject=str(model),
        display=display or make_display(live=False),
        against=str(against) if against is not None else None,
    )
    return EvaluationResult(results=results, comparisons=comparisons)


def _manager(plugins: Sequence[Plugin]) -> PluginManager:
    """Return the installed plugins and these, files first: they must be there before components are asked for."""
    manager = PluginManager(files=[Path(one) for one in plugins if isinstance(one, str | Path)])
    for plugin in plugins:
        if isinstance(plugin, ModuleType):
            manager.load_object(plugin.__name__, plugin)
    for plugin in plugins:
        if isinstance(plugin, type):
            manager.registry.add([plugin], python_origin(plugin))
    if manager.broken:
        raise PluginError("; ".join(f"plugin {report} cannot be used: {report.reason}" for report in manager.broken))
    return manager


def _as_words(overrides: Overrides) -> list[str]:
    """Return overrides as the command line writes them."""
    if isinstance(overrides, Mapping):
        return [f"{field}={flow(value)}" for field, value in overrides.items()]
    if isinstance(overrides, str):
        raise RecipeError(f"overrides: {overrides!r} is one text. Give a list, as [{overrides!r}], or a mapping.")
    return list(overrides)


def _resolved(
    recipe: str | Path | Mapping[str, object] | Recipe, changes: Sequence[str], profile: str | None, manager: PluginManager
) -> Resolution:
    if isinstance(recipe, Recipe):
        if not changes and profile is None:
            return Resolution(recipe, {})
        recipe = {**to_values(recipe), "profile": "none"}
    return resolve_recipe(recipe, changes, profile, registry=manager.registry)


def _result(path: Path, finished: bool) -> RunResult:
    records = read_records(path / METRICS).whole
    steps = int(records[-1]["step"]) if records else 0
    evaluations = read_evaluations(path)
    before, after = evaluations.get(0, ()), evaluations.get(steps, ()) if steps else ()
    comparisons = compare(before, after) if before and after else ()
    return RunResult(path=path, steps=steps, finished=finished, before=before, after=after, comparisons=comparisons)
