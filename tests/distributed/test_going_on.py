"""Runs that go on with another number of processes, and runs that lose one."""

from __future__ import annotations

import pytest
import torch

from tests.distributed.conftest import TINY, Finished, launch

JOB = {"recipe": "rosd", "changes": [*TINY, "evaluation.problems=0"]}


def changed(*changes):
    return {**JOB, "changes": [*JOB["changes"], *changes]}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The run in one go, in one process."""
    from tests.distributed.worker import work

    out = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WITNESS", str(out))
        work(out, [{**changed("steps=3"), "name": "run"}])
    return Finished(out / "run")


def assert_same(found, expected):
    assert [line["step"] for line in found.numbers()] == [1, 2, 3]
    assert found.numbers()[-1]["train/loss"] == pytest.approx(expected.numbers()[-1]["train/loss"], rel=1e-4)
    for name, weight in expected.weights().items():
        torch.testing.assert_close(found.weights()[name], weight, rtol=0, atol=2e-5)


def test_one_goes_on_as_two_and_two_as_one(whole, alone, tmp_path):
    alone(tmp_path, {**changed("steps=1"), "name": "run"})
    begun = launch(tmp_path, [{**changed("steps=2", "parallel.mode=fsdp"), "resume": str(tmp_path / "run")}])
    assert begun.returncode == 0, begun.stderr[-3000:]
    alone(tmp_path, {**changed("steps=3"), "resume": str(tmp_path / "run")})
    assert_same(Finished(tmp_path / "run"), whole)


def test_when_one_is_killed_all_stop_and_the_run_can_go_on(whole, tmp_path):
    lost = launch(tmp_path, [{**changed("steps=3"), "name": "run", "kill": [1, 1]}])
    assert lost.returncode != 0
    assert "SIGKILL" in lost.stderr or "Signal 9" in lost.stderr
    again = launch(tmp_path, [{**changed("steps=3"), "resume": str(tmp_path / "run")}])
    assert again.returncode == 0, again.stderr[-3000:]
    assert_same(Finished(tmp_path / "run"), whole)


def test_a_mistake_of_one_process_ends_all(tmp_path):
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken/something").touch()
    found = launch(tmp_path, [{**JOB, "name": "taken"}])
    assert found.returncode != 0
    assert "already holds a run" in found.stderr
    assert "the main process could not take the run's folder" in found.stderr
