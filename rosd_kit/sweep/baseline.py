"""The evaluation before training, made once for all trials that would find the same and kept in the sweep's folder.

It depends on the weights, the task, the verifier, the engine, the plugins that bring them, and how answers are sampled; not
on the run's own seed nor on anything that trains. Whoever comes first measures while the others wait; a lock goes with the
process that held it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from rosd_kit.evaluation.results import SuiteResult
from rosd_kit.files import lock_file, write_atomically
from rosd_kit.recipe import to_values
from rosd_kit.sweep.trial_id import code_of, digest, source_digest

if TYPE_CHECKING:
    from rosd_kit.model.student import Student
    from rosd_kit.plugins.registry import Registry
    from rosd_kit.recipe import Recipe

Results = tuple[SuiteResult, ...]
_SLOTS = ("task", "verifier", "rollout")


class SharedBaseline:
    """Gives a run its evaluation before training from a folder, or measures it and puts it there."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __call__(self, recipe: Recipe, student: Student, registry: Registry, measure: Callable[[], Results]) -> Results:
        """Return what `measure` found in the first run that asked for the same."""
        self._folder.mkdir(parents=True, exist_ok=True)
        file = self._folder / f"{_key(recipe, student, registry)}.json"
        with lock_file(file.with_suffix(".lock"), wait=True):  # without locks two may measure the same, which does no harm
            if file.is_file():
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
            "max_new_tokens": recipe.sampling.max_new_tokens,
            "weights": student.fingerprint,
            "device": str(student.device),
            "source": source_digest(),
            "code": code_of(recipe, registry, _SLOTS),
        }
    )
