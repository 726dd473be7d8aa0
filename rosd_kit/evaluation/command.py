"""`rosd-kit eval`: measure a run's model, or any model, on the suites of a recipe's task."""

from __future__ import annotations

from pathlib import Path

from rosd_kit.display import Display
from rosd_kit.errors import RunError
from rosd_kit.evaluation.suites import SuiteResult, evaluate_suites
from rosd_kit.plugins import PluginManager
from rosd_kit.recipe import Recipe, build_components
from rosd_kit.train.student import Student


def execute(recipe: Recipe, *, plugins: PluginManager, run: Path | None, display: Display) -> tuple[SuiteResult, ...]:
    """Evaluate and show the result; `run` is a run's folder whose exported model is meant instead of `recipe.model.path`."""
    model = recipe.model
    if run is not None:
        if not (run / "model").is_dir():
            raise RunError(f"{run}: the run has no exported model yet. Finish it with: rosd-kit run --resume {run}")
        model = model.model_copy(update={"path": str(run / "model"), "lora": None})
    parts = build_components(recipe, plugins.registry)
    student = Student.load(model, keep_initial=False)
    parts.rollout.start(student)
    try:
        results = evaluate_suites(
            task=parts.task,
            engine=parts.rollout,
            verifier=parts.verifier,
            prompt_ids=student.prompt_ids,
            settings=recipe.evaluation,
            max_new_tokens=recipe.sampling.max_new_tokens,
        )
        display.evaluation(0, results)
    finally:
        parts.rollout.close()
        display.close()
    return results
