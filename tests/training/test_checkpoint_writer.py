"""Checkpoints that a thread writes while training goes on."""

from __future__ import annotations

import threading

import pytest
import torch

from rosd_kit.errors import RunError
from rosd_kit.parallel.ranks import Ranks
from rosd_kit.training import checkpoint_writer
from rosd_kit.training.checkpoint import list_checkpoints, load_checkpoint, restore_random
from rosd_kit.training.checkpoint_writer import CheckpointWriter

STATE = {"warnings": [], "prefetched": None, "identity": {}}


@pytest.fixture
def writer(tmp_path):
    made = CheckpointWriter(tmp_path, Ranks.alone("cpu"), keep=2, background=True)
    yield made
    made.close()


@pytest.fixture
def gate(monkeypatch):
    """Hold the thread back until the gate is opened."""
    opened, save_file = threading.Event(), checkpoint_writer.save_file

    def held_back(*args):
        assert opened.wait(60)
        save_file(*args)

    monkeypatch.setattr(checkpoint_writer, "save_file", held_back)
    return opened


def test_what_training_changes_meanwhile_is_not_in_the_checkpoint(writer, gate, tmp_path):
    weight = torch.ones(3, requires_grad=True)
    writer.save(1, {"student": {"w": weight}}, STATE)
    expected = torch.rand(2)
    with torch.no_grad():
        weight.mul_(7)
    assert list_checkpoints(tmp_path) == []
    gate.set()
    writer.wait()
    checkpoint = load_checkpoint(tmp_path / "step-000001")
    assert checkpoint.tensors["student"]["w"].equal(torch.ones(3))
    restore_random(checkpoint)
    assert torch.rand(2).equal(expected)


def test_the_next_save_waits_and_old_checkpoints_go(writer, tmp_path):
    for step in range(1, 5):
        writer.save(step, {"student": {"w": torch.full((2,), float(step))}}, STATE)
    writer.close()
    assert [path.name for path in list_checkpoints(tmp_path)] == ["step-000003", "step-000004"]
    assert load_checkpoint(tmp_path / "step-000004").tensors["student"]["w"].tolist() == [4.0, 4.0]


def test_a_full_disk_is_reported_once_at_the_next_call(writer, tmp_path, monkeypatch):
    def full(*args):
        raise OSError(28, "No space left on device")

    writer.save(1, {"student": {"w": torch.ones(1)}}, STATE)
    writer.wait()
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint_writer, "save_file", full)
        writer.save(2, {"student": {"w": torch.ones(1)}}, STATE)
        with pytest.raises(RunError, match=r"step-000002: cannot be written: the disk is full.*--resume"):
            writer.wait()
    writer.save(3, {"student": {"w": torch.ones(1)}}, STATE)
    writer.wait()
    assert [path.name for path in list_checkpoints(tmp_path)] == ["step-000001", "step-000003"]
    assert not list(tmp_path.glob(".writing*"))
