"""Checkpoints: what they restore, what a failed save leaves behind, and how damage is reported."""

from __future__ import annotations

import errno
import os
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rosd_kit.errors import RunError
from rosd_kit.training import checkpoint_writer
from rosd_kit.training.checkpoint import list_checkpoints, load_checkpoint, restore_random
from rosd_kit.training.checkpoint_writer import save_checkpoint

TENSORS = {
    "student": {"a.weight": torch.arange(6.0).reshape(2, 3).T, "b": torch.tensor([1.5], dtype=torch.bfloat16)},
    "optimizer": {"counters": torch.tensor([3, 0])},
    "teacher": {},
}
FILES = ("student.safetensors", "optimizer.safetensors", "teacher.safetensors", "random.safetensors", "state.json")


def save(folder, step, keep=2, **state):
    return save_checkpoint(folder, step, TENSORS, state, keep=keep)


def draws():
    return (
        random.random(),
        random.gauss(0, 1),
        np.random.rand(),
        np.random.randn(),
        torch.rand(3).tolist(),
        torch.randn(1).item(),
    )


def test_tensors_and_state_are_restored_exactly(tmp_path):
    checkpoint = load_checkpoint(save(tmp_path, 40, warnings=["ü"]))
    assert (checkpoint.step, checkpoint.state["warnings"]) == (40, ["ü"])
    for component, tensors in TENSORS.items():
        assert checkpoint.tensors[component].keys() == tensors.keys()
        for name, tensor in tensors.items():
            assert checkpoint.tensors[component][name].equal(tensor)
            assert checkpoint.tensors[component][name].dtype == tensor.dtype


@given(warm=st.integers(0, 5))
@settings(max_examples=6)
def test_the_random_numbers_of_every_library_continue(tmp_path_factory, warm):
    for _ in range(warm):
        draws()
    random.gauss(0, 1)
    saved = save(tmp_path_factory.mktemp("checkpoints"), 1)
    expected = draws()
    draws()
    restore_random(load_checkpoint(saved))
    assert draws() == expected


def test_only_the_newest_steps_are_kept(tmp_path):
    for step in (1, 9, 10, 999_999, 1_000_000):
        save(tmp_path, step, keep=3)
    assert [path.name for path in list_checkpoints(tmp_path)] == ["step-000010", "step-999999", "step-1000000"]
    assert len(list(tmp_path.iterdir())) == 3


def test_other_files_in_the_folder_are_neither_listed_nor_removed(tmp_path):
    (tmp_path / "step-000009-mine").mkdir()
    (tmp_path / "step-000008").write_text("a file")
    save(tmp_path, 1, keep=1)
    save(tmp_path, 2, keep=1)
    assert [path.name for path in list_checkpoints(tmp_path)] == ["step-000002"]
    assert (tmp_path / "step-000009-mine").is_dir()
    assert (tmp_path / "step-000008").is_file()


def test_the_next_save_removes_what_a_killed_save_left(tmp_path):
    for leftover in (".writing-000003", ".removing-step-000001"):
        (tmp_path / leftover).mkdir()
        (tmp_path / leftover / "student.safetensors").write_bytes(b"half")
    save(tmp_path, 4)
    assert [path.name for path in tmp_path.iterdir()] == ["step-000004"]


def test_saving_a_step_again_replaces_the_first_checkpoint(tmp_path):
    save(tmp_path, 1, warnings=["first"])
    assert load_checkpoint(save(tmp_path, 1, warnings=["second"])).state["warnings"] == ["second"]


def operations(monkeypatch, fail_at):
    """Make the n-th file operation of a save raise ENOSPC; return the list of operations."""
    done = []

    def watched(original):
        def operation(*args, **options):
            done.append(original.__name__)
            if len(done) - 1 == fail_at:
                raise OSError(errno.ENOSPC, "No space left on device")
            return original(*args, **options)

        return operation

    for owner, name in (
        (checkpoint_writer, "save_file"),
        (os, "fsync"),
        (os, "rename"),
        (Path, "write_text"),
        (Path, "mkdir"),
    ):
        monkeypatch.setattr(owner, name, watched(getattr(owner, name)))
    return done


def test_a_full_disk_at_any_operation_leaves_the_old_checkpoint_intact(tmp_path):
    with pytest.MonkeyPatch.context() as patch:
        done = operations(patch, -1)
        save(tmp_path / "count", 2)
    assert set(done) == {"save_file", "fsync", "rename", "write_text", "mkdir"}
    for fail_at in range(len(done)):
        folder = tmp_path / str(fail_at)
        save(folder, 1, warnings=["old"])
        with pytest.MonkeyPatch.context() as patch:
            operations(patch, fail_at)
            with pytest.raises(RunError, match=r"step-000002: cannot be written: the disk is full.*Make room.*--resume"):
                save(folder, 2)
        assert load_checkpoint(folder / "step-000001").state["warnings"] == ["old"]
        assert not list(folder.glob(".writing*"))
        assert load_checkpoint(save(folder, 3)).step == 3


def test_an_error_of_another_kind_is_not_reported_as_a_full_disk(tmp_path):
    with pytest.raises(TypeError):
        save(tmp_path, 1, warnings=[object()])
    assert list_checkpoints(tmp_path) == []


@pytest.mark.parametrize("name", [*FILES, "manifest.json"])
@pytest.mark.parametrize("damage", ["truncated", "emptied", "missing", "flipped"])
def test_damage_is_reported_with_the_file_and_the_remedy(tmp_path, name, damage):
    folder = save(tmp_path, 7)
    file = folder / name
    content = file.read_bytes()
    if damage == "missing":
        file.unlink()
    else:
        flipped = bytes([content[0] ^ 0xFF]) + content[1:]
        file.write_bytes({"truncated": content[:-2], "emptied": b"", "flipped": flipped}[damage])
    with pytest.raises(RunError) as caught:
        load_checkpoint(folder)
    assert str(caught.value).startswith(f"{file}: the checkpoint is damaged: ")
    assert f"Remove {folder} to resume from the previous checkpoint" in str(caught.value)
    assert ("it is missing" in str(caught.value)) == (damage == "missing")


def test_a_checkpoint_can_be_moved(tmp_path):
    folder = save(tmp_path / "here", 1)
    shutil.copytree(folder, tmp_path / "there")
    assert load_checkpoint(tmp_path / "there").step == 1


def test_no_folder_means_no_checkpoints(tmp_path):
    assert list_checkpoints(tmp_path / "nowhere") == []
