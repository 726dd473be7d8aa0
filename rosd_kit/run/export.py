"""Writes the model of a checkpoint as plain transformers can load it, with its card; the run need not be finished."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from rosd_kit.errors import RunError
from rosd_kit.files import explain_write_errors
from rosd_kit.model.student import Student
from rosd_kit.recipe import Recipe
from rosd_kit.run.model_card import write_model
from rosd_kit.training.checkpoint import list_checkpoints, load_checkpoint


def export_checkpoint(recipe: Recipe, run: Path, out: Path, *, step: int | None = None) -> Path:
    """Write the student of a run's checkpoint to the new folder `out`, and return the checkpoint's folder.

    `recipe` is the run's own; `step` chooses a checkpoint, by default the newest. One process reads any checkpoint, whole or
    sharded, into the memory of the CPU. Raises `RunError` if there is no such checkpoint or `out` exists already.
    """
    checkpoint = _chosen(run, step)
    if out.exists():
        raise RunError(f"export: {str(out)!r} exists already. Choose another folder, or remove that one.")
    model = recipe.model.model_copy(update={"device": "cpu"})
    student, saved = Student.load(model, keep_initial=False), load_checkpoint(checkpoint)
    student.load_state(saved.tensors["student"])
    trained = recipe.model_copy(update={"steps": saved.step})
    aside = out.with_name(f".{out.name}.{os.getpid()}.writing")
    try:
        with explain_write_errors(f"export: {str(out)!r}", "Choose another folder, or make room."):
            aside.parent.mkdir(parents=True, exist_ok=True)
            write_model(aside, export=student.exporter(writes=True), recipe=trained, run=run)
            aside.rename(out)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return checkpoint


def _chosen(run: Path, step: int | None) -> Path:
    """Return the folder of a run's checkpoint."""
    found = {int(path.name.rpartition("-")[2]): path for path in list_checkpoints(run / "checkpoints")}
    if not found:
        hint = f"Its model is in {run / 'model'}." if (run / "model").is_dir() else "Give a run's folder that has one."
        raise RunError(f"export: {str(run)!r} holds no checkpoint. {hint}")
    if step is None:
        return found[max(found)]
    if step not in found:
        raise RunError(f"export --step: {step} is not saved. Allowed: {', '.join(map(str, found))}.")
    return found[step]
