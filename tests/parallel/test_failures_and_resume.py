"""Runs that resume with another number of processes, and runs that lose one."""

from __future__ import annotations

import pytest
import torch

from tests.parallel.conftest import TINY, Finished

pytestmark = pytest.mark.timeout(900)  # parallel.timeout_minutes ends a hang earlier

JOB = {"recipe": "rosd", "changes": [*TINY, "group_size=2", "gate=all"]}


def job(*changes, **more):
    return {**JOB, "changes": [*JOB["changes"], *changes], **more}


@pytest.fixture(scope="module")
def whole(alone, tmp_path_factory):
    """The uninterrupted run, in one process."""
    out = tmp_path_factory.mktemp("whole")
    alone(out, job("steps=3", name="run"))
    return Finished(out / "run")


def assert_same(run, expected):
    assert [line["step"] for line in run.numbers()] == [1, 2, 3]
    assert run.numbers()[-1]["train/loss"] == pytest.approx(expected.numbers()[-1]["train/loss"], rel=1e-4)
    for name, weight in expected.weights().items():
        torch.testing.assert_close(run.weights()[name], weight, rtol=0, atol=2e-5)


def test_a_run_resumes_with_two_processes_and_then_with_one(whole, launch, alone, tmp_path):
    alone(tmp_path, job("steps=1", name="run"))
    resumed = launch(tmp_path, job("steps=2", "parallel.mode=fsdp", "checkpoint.background=true", resume=str(tmp_path / "run")))
    assert resumed.code == 0, resumed.cause
    alone(tmp_path, job("steps=3", resume=str(tmp_path / "run")))
    assert_same(Finished(tmp_path / "run"), whole)


def test_when_one_process_is_killed_all_stop_and_the_run_can_resume(whole, launch, tmp_path):
    changes = ["steps=3", "parallel.mode=fsdp", "checkpoint.background=true"]
    lost = launch(tmp_path, job(*changes, name="run", at=[1, 2, "kill"], slow_close=0.5))
    assert lost.code != 0
    assert "Signal 9 (SIGKILL)" in lost.output and "rank      : 1" in lost.output
    assert "process 0 of 2 lost the others: " in lost.output and "rosd-kit run --resume" in lost.output
    again = launch(tmp_path, job("steps=3", resume=str(tmp_path / "run")))
    assert again.code == 0, again.cause
    assert_same(Finished(tmp_path / "run"), whole)


@pytest.mark.parametrize("mode", ["ddp", "fsdp"])
def test_when_one_process_fails_all_stop_and_the_launcher_names_it_and_the_cause(launch, tmp_path, mode):
    lost = launch(tmp_path, job(f"parallel.mode={mode}", name="run", at=[1, 1, "the cause of it all"]))
    assert lost.code != 0
    summary = lost.output[lost.output.index("Root Cause (first observed failure)") :]
    assert "rank      : 1" in summary and "ValueError: the cause of it all" in summary
    assert Finished(tmp_path / "run").lines("metrics.jsonl")[-1]["step"] == 1
    assert (tmp_path / "run/checkpoints/step-000001/manifest.json").is_file()


def test_an_error_of_the_main_process_ends_all(launch, tmp_path):
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken/something").touch()
    failed = launch(tmp_path, {**JOB, "name": "taken"})
    assert failed.code != 0
    assert "is not empty and holds no run" in failed.output
    assert "the main process could not take the run's folder" in failed.output
