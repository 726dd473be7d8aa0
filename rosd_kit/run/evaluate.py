"""`rosd-kit eval`: measures a run's model, or any model, on the suites of a recipe's task."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NotRequired, TypedDict

from rosd_kit.contracts import Site
from rosd_kit.display import Display
from rosd_kit.errors import RunError
from rosd_kit.evaluation.inspect_log import Judgement, Measured, inspect_log, log_name
from rosd_kit.evaluation.results import Comparison, SuiteResult, compare
from rosd_kit.evaluation.suites import evaluate_suites, evaluation_sampling
from rosd_kit.faults import Faults
from rosd_kit.files import explain_write_errors, finite
from rosd_kit.model.lora import base_of_adapter
from rosd_kit.model.student import Student
from rosd_kit.options import options_at
from rosd_kit.plugins.manager import PluginManager
from rosd_kit.recipe import Recipe, build_components, load_recipe
from rosd_kit.run.state import check_readable
from rosd_kit.settings import LoraSettings
from rosd_kit.training.checkpoint import list_checkpoints, load_checkpoint
from rosd_kit.types import JsonObject


class Measurement(TypedDict):
    """The results of one model, as plain values; `step` is the number of steps it was trained for, if known."""

    model: str
    step: int | None
    results: list[JsonObject]


class EvaluationReport(Measurement):
    """What `rosd-kit eval --out` writes: one model, and with `--against` another and their comparison suite by suite."""

    against: NotRequired[Measurement]
    comparisons: NotRequired[list[JsonObject]]


def evaluate_model(
    recipe: Recipe,
    *,
    plugins: PluginManager,
    subject: str,
    display: Display,
    against: str | None = None,
    out: Path | None = None,
    inspect: Path | None = None,
) -> tuple[tuple[SuiteResult, ...], tuple[Comparison, ...]]:
    """Evaluate a run's folder, a model's folder or a hub name, show the results and return them with the comparisons.

    `recipe.model.path` is not used.

    For a run, its newest checkpoint is measured, finished or not, or its exported model if no checkpoint was kept. With
    `against`, a second model is measured on the same problems with the same seeds, and the two are compared. With `out`,
    everything is written there as JSON; this is checked first, since measuring may take hours. With `inspect`, every response
    is written into that folder, a log of each suite as Inspect reads it. Raises `RunError` if a model
    cannot be found or `out` cannot be written.
    """
    if out is not None and not out.parent.is_dir():
        raise RunError(
            f"eval --out: {str(out)!r} cannot be written: there is no folder {str(out.parent)!r}. Choose another file."
        )
    if inspect is not None:
        with explain_write_errors(f"eval --inspect: {str(inspect)!r}", "Choose another folder."):
            inspect.mkdir(parents=True, exist_ok=True)
    comparisons: tuple[Comparison, ...] = ()
    try:
        step, results = _measure(recipe, plugins, subject, display, inspect)
        report: EvaluationReport = {"model": subject, "step": step, "results": [result.to_json() for result in results]}
        if against is not None:
            other, earlier = _measure(recipe, plugins, against, display, inspect)
            comparisons = compare(earlier, results)
            if comparisons:
                display.compared(subject, against, comparisons)
            report["against"] = {"model": against, "step": other, "results": [result.to_json() for result in earlier]}
            report["comparisons"] = [comparison.to_json() for comparison in comparisons]
        if out is not None:
            _write(out, report)
    finally:
        display.close()
    return results, comparisons


def _measure(
    recipe: Recipe, plugins: PluginManager, subject: str, display: Display, inspect: Path | None
) -> tuple[int | None, tuple[SuiteResult, ...]]:
    """Measure one model and show the results; return the number of steps it was trained for, if known, and the results."""
    components = build_components(recipe, plugins.registry)
    student, step = _load(recipe, plugins, subject)
    check_readable(student, (), components.task.suites(count=recipe.evaluation.problems, seed=recipe.evaluation.seed))
    components.rollout.start(student, Site(listener=display.waiting, samples_initial=False))
    faults = Faults()
    judged: list[tuple[SuiteResult, Sequence[Judgement]]] = []
    try:
        with options_at(recipe.steps if step is None else step):
            results = evaluate_suites(
                task=components.task,
                engine=components.rollout,
                verifier=components.verifier,
                prompt_ids=student.encoder("evaluation"),
                settings=recipe.evaluation,
                training=recipe.sampling,
                faults=faults,
                begins_in_thinking="evaluation" in student.chat.roles_in_thinking(recipe.thinking),
                judged=lambda result, judgements: judged.append((result, judgements)),
            )
    finally:
        components.rollout.close()
    for fault in faults.messages():
        display.warning(fault)
    display.measured(subject, step, results)
    if inspect is not None:
        _write_logs(inspect, recipe, subject, step, judged)
    return step, results


def _write_logs(
    folder: Path, recipe: Recipe, subject: str, step: int | None, judged: Iterable[tuple[SuiteResult, Sequence[Judgement]]]
) -> None:
    """Write a log of each suite for Inspect."""
    measured = Measured(
        model=subject,
        step=step,
        recipe=recipe.name,
        verifier=recipe.verifier.name,
        sampling=evaluation_sampling(recipe.evaluation, recipe.sampling),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    for result, judgements in judged:
        file = folder / log_name(measured, result.suite)
        with explain_write_errors(f"eval --inspect: {str(file)!r}", "Choose another folder."):
            file.write_text(json.dumps(finite(inspect_log(measured, result, judgements)), indent=1) + "\n", encoding="utf-8")


def _write(file: Path, report: Mapping[str, object]) -> None:
    with explain_write_errors(f"eval --out: {str(file)!r}", "Choose another file."):
        file.write_text(json.dumps(finite(report), indent=1) + "\n", encoding="utf-8")


def is_run(folder: Path) -> bool:
    """Return whether the folder holds a run."""
    return (folder / "recipe.yaml").is_file()


def _load(recipe: Recipe, plugins: PluginManager, subject: str) -> tuple[Student, int | None]:
    """Return the student to measure, and the number of steps it was trained for, if known."""
    folder = Path(subject)
    if not is_run(folder):
        return _named(recipe, _checked(subject)), None
    found = list_checkpoints(folder / "checkpoints")
    if not found:
        if (folder / "model").is_dir():
            return _model(recipe, str(folder / "model")), None
        raise RunError(f"{folder}: neither a checkpoint nor a model yet. Continue with: rosd-kit run --resume {folder}")
    own = load_recipe(folder / "recipe.yaml", registry=plugins.registry).model  # the checkpoint's shape, adapters included
    here = {name: getattr(recipe.model, name) for name in ("device", "dtype", "attention")}
    student, checkpoint = Student.load(own.model_copy(update=here), keep_initial=False), load_checkpoint(found[-1])
    student.load_state(checkpoint.tensors["student"])
    return student, checkpoint.step


def _model(recipe: Recipe, path: str) -> Student:
    """Load a model's folder, a hub model, or an adapter's folder with the base model that it names.

    Of the recipe's own model, the revision and GGUF file that the recipe names are loaded.
    """
    base = base_of_adapter(path)
    lora = None if base is None else LoraSettings(path=path)
    own = {} if path == recipe.model.path else {"revision": None, "gguf": None}
    changes = {"path": base or path, "lora": lora, **own}
    return Student.load(recipe.model.model_copy(update=changes), keep_initial=False)


def _named(recipe: Recipe, subject: str) -> Student:
    """Load a model's folder or a hub model."""
    try:
        return _model(recipe, subject)
    except RunError as error:
        if Path(subject).exists():
            raise
        why = str(error).splitlines()[0].removeprefix(f"model.path: cannot load {subject!r}: ")
        raise RunError(
            f"eval: {subject!r} is not a folder here, and the hub has no such model: {why}\n"
            "Give a run's folder (for example runs/rosd-1), a model's folder, micro, or a hub name."
        ) from error


def _checked(subject: str) -> str:
    """Return the model's name; refuse a path that holds no model before transformers looks for it on the hub."""
    folder = Path(subject)
    if folder.is_dir() and not (folder / "config.json").is_file():
        raise RunError(f"eval: {subject!r} holds neither a run (recipe.yaml) nor a model (config.json).")
    if not folder.exists() and (folder.is_absolute() or subject.startswith(".") or subject.count("/") > 1):
        raise RunError(f"eval: there is no folder {subject!r}. Give a run's folder, a model's folder, or a hub name.")
    return subject
