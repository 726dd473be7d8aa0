"""Measures the evaluation before training once per sweep and shares it between trials.

The result depends on the weights, the task, the verifier, the engine, the plugins that provide them, and how answers are
sampled. It does not depend on the trial's seed or on anything that trains. The first trial measures while the others wait for
its file lock, which the system releases when that process ends.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from rosd_kit.evaluation.results import SuiteResult
from rosd_kit.evaluation.suites import evaluation_sampling
from rosd_kit.files import lock_file, write_atomically
from rosd_kit.recipe import to_values
from rosd_kit.sweep.trial_id import digest, plugin_versions, source_digest

if TYPE_CHECKING:
    from rosd_kit.model.student import Student
    from rosd_kit.plugins.registry import Registry
    from rosd_kit.recipe import Recipe

Results = tuple[SuiteResult, ...]
_SLOTS = ("task", "verifier", "rollout")


class SharedBaseline:
    """Reads the evaluation before training from a folder, or measures it and stores it there."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __call__(self, recipe: Recipe, student: Student, registry: Registry, measure: Callable[[], Results]) -> Results:
        """Return the stored results for these settings and weights; call `measure` and store its results if there are none."""
        self._folder.mkdir(parents=True, exist_ok=True)
        file = self._folder / f"{_key(recipe, student, registry)}.json"
        # On a file system without locks, two processes may both measure; their results are the same.
        with lock_file(file.with_suffix(".lock"), wait=True):
            with suppress(OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):  # missing or damaged
                return tuple(SuiteResult.from_json(value) for value in json.loads(file.read_text()))
            results = measure()
            write_atomically(file, [json.dumps([result.to_json() for result in results])], sync=True)
            return results


def _key(recipe: Recipe, student: Student, registry: Registry) -> str:
    values = to_values(recipe)
    settings = {field: values[field] for field in (*_SLOTS, "model", "evaluation")}
    settings["evaluation"] = {field: value for field, value in values["evaluation"].items() if field != "every"}
    return digest(
        {
            **settings,
            "sampling": asdict(evaluation_sampling(recipe.evaluation, recipe.sampling)),
            "weights": student.fingerprint,
            "device": str(student.device),
            "source": source_digest(),
            "code": plugin_versions(recipe, registry, _SLOTS),
        }
    )
