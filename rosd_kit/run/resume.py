"""Saves a run and resumes it bit for bit; refuses a resume whose recipe would give other numbers."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from functools import partial
from pathlib import Path

from torch import Tensor

from rosd_kit.errors import RunError
from rosd_kit.evaluation.results import SuiteResult
from rosd_kit.plugins.registry import Registry
from rosd_kit.recipe import Recipe, load_recipe, to_values
from rosd_kit.run.folder import RunFolder
from rosd_kit.run.identity import new_run_id, saved_recipe, saved_run_id
from rosd_kit.run.records import EVALUATIONS, METRICS, in_words
from rosd_kit.run.state import Run
from rosd_kit.training.checkpoint import (
    RunValues,
    list_checkpoints,
    load_checkpoint,
    load_state,
    restore_random,
)
from rosd_kit.training.optimizer import Optimizer, learning_rate
from rosd_kit.types import JsonObject

FREE = ("steps", "evaluation", "checkpoint", "samples", "watch", "tracking", "parallel")
"""Fields of a recipe that a resumed run may change."""
_UNKNOWN = (
    "it was saved by a version that did not record the run, recipe, model and data of a checkpoint, "
    "so nobody can check that they are still the same"
)


def check_recipe(folder: RunFolder, recipe: Recipe, registry: Registry) -> None:
    """Raise `RunError` naming each field in which `recipe`, or the folder's recipe.yaml, is not what the run was trained by.

    The newest checkpoint says what that is. Without one, or with one of a version that did not keep it, it is recipe.yaml.
    """
    written, steps = load_recipe(folder.path / "recipe.yaml", registry=registry), taken_steps(folder)
    newest = newest_checkpoint(folder)
    identity = load_state(newest).get("identity") if newest is not None else None
    if newest is not None and identity is not None:
        saved = saved_recipe(identity, newest, registry)
        check_same(saved, written, steps, f"{folder.path / 'recipe.yaml'} was edited after {newest.name} was saved")
        written = saved
    check_same(written, recipe, steps)


def check_same(saved: Recipe, recipe: Recipe, step: int, what: str = "--resume: the recipe is not the run's own") -> None:
    """Raise `RunError` naming each field in which `recipe` differs from the saved one and must not.

    A component's options may change where its `Config.free_on_resume` names them; `optimizer.schedule_steps` may take the
    value that it stood for. `step` is how many steps the run has taken; `what` begins the message.
    """
    _check_decay(saved, recipe, step)
    free = {f"{kind}.{option}" for kind, choice in recipe.choices() for option in choice.options.free_on_resume}
    before, now = dict(_fixed(saved, free)), dict(_fixed(recipe, free))
    changed = [name for name in before | now if before.get(name) != now.get(name)]
    if changed:
        listed = ", ".join(f"{name} ({before.get(name)!r} -> {now.get(name)!r})" for name in changed)
        raise RunError(f"{what}: {listed}. Only {', '.join(FREE)} may change.")


def _check_decay(saved: Recipe, recipe: Recipe, step: int) -> None:
    """Raise `RunError` if the learning rate would follow another curve, because its length follows `steps`."""
    before, now = _schedule_steps(saved), _schedule_steps(recipe)
    if before == now or before is None or now is None:
        return
    on_old, on_new = (learning_rate(saved.optimizer, step, length) for length in (before, now))
    raise RunError(
        f"--resume: optimizer.decay={recipe.optimizer.decay} would run over {now} steps instead of {before}: update {step + 1} "
        f"has the rate {on_old:.3g} on the run's own curve and {on_new:.3g} on the new one. "
        f"Add optimizer.schedule_steps={before} to continue on the run's own curve. "
        "For a curve over more steps than a run takes at first, set it when the run begins."
    )


def _schedule_steps(recipe: Recipe) -> int | None:
    """Return over how many steps the rate decays; None if it does not."""
    return None if recipe.optimizer.decay == "constant" else recipe.optimizer.schedule_steps or recipe.steps


def _fixed(recipe: Recipe, free: Collection[str]) -> Iterator[tuple[str, object]]:
    values = to_values(recipe)
    values["optimizer"]["schedule_steps"] = _schedule_steps(recipe)
    for field, value in values.items():
        if field not in FREE:
            yield from (leaf for leaf in _leaves(field, value) if ".".join(leaf[0].split(".")[:2]) not in free)


def _leaves(path: str, value: object) -> Iterator[tuple[str, object]]:
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from _leaves(f"{path}.{key}", item)
    elif isinstance(value, list) and value:
        for index, item in enumerate(value):
            yield from _leaves(f"{path}.{index}", item)
    else:
        yield path, value


def taken_steps(folder: RunFolder) -> int:
    """Return how many steps a run's newest checkpoint has taken; 0 without one."""
    newest = newest_checkpoint(folder)
    return int(newest.name.rpartition("-")[2]) if newest is not None else 0


def newest_checkpoint(folder: RunFolder) -> Path | None:
    """Return a run's newest checkpoint, if there is one."""
    return next(reversed(list_checkpoints(folder.checkpoints)), None)


def run_id(folder: RunFolder) -> str:
    """Return the id of a run: its own record's, else its newest checkpoint's, else a new one."""
    if known := folder.run_id():
        return known
    newest = newest_checkpoint(folder)
    identity = load_state(newest).get("identity") if newest is not None else None
    return new_run_id() if newest is None or identity is None else saved_run_id(identity, newest)


def save(run: Run) -> None:
    """Write a checkpoint of the present step, once."""
    if run.saved == run.step:
        return
    run.saved = run.step
    run.reporter.display.phase("save")
    state: RunValues = {
        "warnings": run.reporter.warnings,
        "prefetched": run.prefetcher.state(),
        "open_groups": run.open_groups.state() if run.open_groups is not None else None,
        "identity": run.identity.state(run.recipe),
    }
    run.checkpoints.save(run.step, _tensors(run), state)


def _tensors(run: Run) -> dict[str, dict[str, Tensor]]:
    return {
        "student": run.student.state(),
        "optimizer": run.optimizer.state(),
        "teacher": run.components.teacher.state_dict(),
    }


def restore(run: Run) -> None:
    """Put a run back to its newest checkpoint, or to its start when there is none, and drop later records."""
    newest = run.ranks.from_main(newest_checkpoint(run.folder))
    if newest is not None:
        checkpoint = load_checkpoint(newest, like=partial(_like, _tensors(run), run.optimizer), ranks=run.ranks)
        identity = checkpoint.state.get("identity")
        if identity is not None:
            run.identity.check(identity, newest)
        run.student.load_state(checkpoint.tensors["student"])
        run.optimizer.load_state(checkpoint.tensors["optimizer"])
        run.components.teacher.load_state_dict(checkpoint.tensors["teacher"])
        restore_random(checkpoint)
        run.step = run.saved = checkpoint.step
        run.reporter.warnings[:] = checkpoint.state["warnings"]
        if identity is None:
            run.reporter.warn_new([f"{newest}: {_UNKNOWN}"])
        run.prefetcher.load_state(checkpoint.state.get("prefetched"), run.problems)
        if run.open_groups is not None and (left := checkpoint.state.get("open_groups")):
            run.open_groups.load_state(left)
        run.sync_engine()
    if run.step > run.recipe.steps:
        raise RunError(f"steps: the run already took {run.step} steps, more than the {run.recipe.steps} asked for.")
    for name in (METRICS, EVALUATIONS):
        for problem in run.folder.truncate(name, run.step):
            run.reporter.warn(f"{problem}. The checkpoint is whole, so training goes on as it would have")
    _tell_gaps(run)
    _watch_again(run)


def _like(present: Mapping[str, Mapping[str, Tensor]], optimizer: Optimizer, component: str, name: str) -> Tensor | None:
    """Return the tensor as whose shards a saved one is needed; a new optimizer's state is not there yet."""
    return optimizer.parameter_of(name) if component == "optimizer" else present.get(component, {}).get(name)


def _tell_gaps(run: Run) -> None:
    """Warn of steps that were taken and are not recorded."""
    recorded = {record["step"] for record in run.folder.read(METRICS)}
    if missing := {*range(1, run.step + 1)} - recorded:
        run.reporter.warn(
            f"{run.folder.path / METRICS}: the records of {len(missing)} of {run.step} steps are missing "
            f"({in_words(missing)}). The checkpoint is whole, so training goes on as it would have; "
            "curves and sums lack these steps"
        )
    if run.step and all(record["step"] != 0 for record in run.folder.read(EVALUATIONS)):
        run.reporter.warn(
            f"{run.folder.path / EVALUATIONS}: the evaluation before the first step is missing, "
            "so the summary cannot compare with it"
        )


def _watch_again(run: Run) -> None:
    """Show the watch what happened so far; warn of what it did not warn of then, because `watch` was set otherwise."""
    watch = run.reporter.watch
    for record in run.folder.read(METRICS):
        run.reporter.warn_new(watch.step(_numbers(record)))
    for record in run.folder.read(EVALUATIONS):
        run.reporter.warn_new(watch.evaluation([SuiteResult.from_json(result) for result in record["results"]]))


def _numbers(record: Mapping[str, object]) -> JsonObject:
    return {name: value for name, value in record.items() if value is not None}
