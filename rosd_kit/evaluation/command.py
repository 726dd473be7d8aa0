"""`rosd-kit eval`: measure a run's model, or any model, on the suites of a recipe's task."""

from __future__ import annotations

from pathlib import Path

from rosd_kit.contracts import Site
from rosd_kit.display import Display
from rosd_kit.errors import RunError
from rosd_kit.evaluation.suites import SuiteResult, evaluate_suites
from rosd_kit.plugins import PluginManager
from rosd_kit.recipe import Recipe, build_components
from rosd_kit.train.checkpoint import list_checkpoints, load_checkpoint
from rosd_kit.train.student import Student


def execute(recipe: Recipe, *, plugins: PluginManager, subject: str, display: Display) -> tuple[SuiteResult, ...]:
    """Evaluate a run's folder, a model's folder or a hub name, and show the result; `recipe.model.path` is not used.

    Of a run, its newest checkpoint is measured, finished or not; its exported model where no checkpoint was kept.
    Raises `RunError` when `subject` is none of the three.
    """
    parts = build_components(recipe, plugins.registry)
    student, step = _load(recipe, subject)
    parts.rollout.start(student, Site(listener=display.waiting))
    try:
        results = evaluate_suites(
            task=parts.task,
            engine=parts.rollout,
            verifier=parts.verifier,
            prompt_ids=student.prompt_ids,
            settings=recipe.evaluation,
            max_new_tokens=recipe.sampling.max_new_tokens,
        )
        display.measured(subject, step, results)
    finally:
        parts.rollout.close()
        display.close()
    return results


def is_run(folder: Path) -> bool:
    """Return whether the folder is that of a run."""
    return (folder / "recipe.yaml").is_file()


def _load(recipe: Recipe, subject: str) -> tuple[Student, int | None]:
    """Return the student to measure, and after how many steps of training it is where that is known."""
    folder = Path(subject)
    if not is_run(folder):
        return _model(recipe, _checked(subject)), None
    found = list_checkpoints(folder / "checkpoints")
    if not found:
        if (folder / "model").is_dir():
            return _model(recipe, str(folder / "model")), None
        raise RunError(f"{folder}: neither a checkpoint nor a model yet. Go on with: rosd-kit run --resume {folder}")
    student, checkpoint = Student.load(recipe.model, keep_initial=False), load_checkpoint(found[-1])
    student.load_state(checkpoint.parts["student"])
    return student, checkpoint.step


def _model(recipe: Recipe, path: str) -> Student:
    return Student.load(
        recipe.model.model_copy(update={"path": path, "revision": None, "gguf": None, "lora": None}), keep_initial=False
    )


def _checked(subject: str) -> str:
    """Return the model's name; a folder that cannot be one is refused before transformers looks for it on the hub."""
    folder = Path(subject)
    if folder.is_dir() and not (folder / "config.json").is_file():
        raise RunError(f"eval: {subject!r} holds neither a run (recipe.yaml) nor a model (config.json).")
    if not folder.exists() and (folder.is_absolute() or subject.startswith(".") or subject.count("/") > 1):
        raise RunError(f"eval: there is no folder {subject!r}. Give a run's folder, a model's folder, or a hub name.")
    return subject
