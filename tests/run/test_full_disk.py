"""A disk that fills up anywhere in a run: a clear end, and nothing lost."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
from transformers import PreTrainedModel

import rosd_kit.run.folder
from rosd_kit.cli import main
from rosd_kit.errors import RunError
from rosd_kit.run.folder import RunFolder
from rosd_kit.training import checkpoint_writer
from rosd_kit.training.checkpoint import list_checkpoints, load_checkpoint

FULL = OSError(errno.ENOSPC, "No space left on device")


def fail_after(monkeypatch, owner, name, calls, error=FULL):
    """Let a function work so many times and then raise."""
    original, done = getattr(owner, name), []

    def failing(*args, **options):
        done.append(1)
        if len(done) > calls:
            raise error
        return original(*args, **options)

    monkeypatch.setattr(owner, name, failing)


@pytest.mark.parametrize(
    ("owner", "name", "calls", "named"),
    [
        (checkpoint_writer, "save_file", 5, "checkpoints/step-000002"),
        (checkpoint_writer, "_sync", 9, "checkpoints/step-000002"),
        (rosd_kit.run.folder, "_append", 2, "metrics.jsonl"),
        (Path, "replace", 5, "samples/step-000002.jsonl"),
        (PreTrainedModel, "save_pretrained", 0, "model"),
    ],
    ids=["tensors", "sync", "metrics", "samples", "model"],
)
def test_a_full_disk_stops_the_run_and_keeps_the_old_checkpoint(
    run, same, tmp_path, tiny, monkeypatch, capsys, owner, name, calls, named
):
    path = tmp_path / "run"
    whole = run(tmp_path / "whole", "steps=2")
    fail_after(monkeypatch, owner, name, calls)
    with pytest.raises(SystemExit) as stopped:
        main(["run", "rosd", *tiny, "steps=2", "--out", str(tmp_path), "--name", "run", "--quiet"])
    error = capsys.readouterr().err
    assert stopped.value.code == 2
    assert f"error: {path / named}: cannot be written: the disk is full" in error
    assert "--resume" in error
    assert "Traceback" not in error
    monkeypatch.undo()
    assert load_checkpoint(list_checkpoints(path / "checkpoints")[-1]).step == (2 if named == "model" else 1)
    assert same(run(path, "steps=2", resume=True).weights(), whole.weights())


def test_a_line_that_does_not_fit_is_an_error_that_names_the_file(tmp_path):
    folder = RunFolder.create(tmp_path, "run", "rosd")
    (folder.path / "metrics.jsonl").symlink_to("/dev/full")
    with pytest.raises(RunError, match=r"metrics\.jsonl: cannot be written: the disk is full"):
        folder.append("metrics.jsonl", {"step": 1})


@pytest.mark.parametrize(
    "error",
    [
        Exception("No space left on device (os error 28)"),
        RuntimeError('Error while serializing: IoError(Os { code: 28, kind: StorageFull, message: "No space left" })'),
        OSError(errno.EDQUOT, "Disk quota exceeded"),
    ],
)
def test_a_full_disk_is_recognised_from_every_library(tmp_path, error):
    def write(folder):
        raise error

    folder = RunFolder.create(tmp_path, "run", "rosd")
    with pytest.raises(RunError, match="the disk is full"):
        folder.write_folder("model", write)


def test_an_error_that_is_not_about_writing_passes_unchanged(tmp_path):
    def write(folder):
        raise KeyError("x")

    with pytest.raises(KeyError):
        RunFolder.create(tmp_path, "run", "rosd").write_folder("model", write)
