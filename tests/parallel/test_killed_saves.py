"""Runs in two processes, one of which is killed while the main one saves a checkpoint, resume to the same bits.

Takes minutes: pytest -m slow tests/parallel/test_killed_saves.py
"""

from __future__ import annotations

import re

import pytest

from tests.parallel.conftest import TINY, Finished

MOMENTS = 5
MODES = {
    "ddp": (),
    "fsdp": (),
    "fsdp with adapters": ("model.lora.rank=2",),
    "fsdp in the background": ("checkpoint.background=true",),
}

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]  # parallel.timeout_minutes ends a hang earlier


def job(kind, **more):
    changes = [*TINY, "gate=all", "steps=3", "checkpoint.keep=1", f"parallel.mode={kind.split()[0]}", *MODES[kind]]
    return {"recipe": "rosd", "changes": changes, **more}


@pytest.mark.parametrize("kind", MODES)
def test_a_run_that_loses_a_process_during_a_save_resumes_to_the_same_bits(launch, tmp_path, kind):
    whole = launch(tmp_path, job(kind, name="whole", kill_in_save=[0, 0]))
    assert whole.code == 0, whole.output[-3000:]
    operations = int(re.search(r"operations: (\d+)", whole.output)[1])
    assert operations > 2 * MOMENTS
    expected = Finished(tmp_path / "whole")
    for moment in range(MOMENTS):
        name, at = f"killed-{moment}", 1 + operations * moment // MOMENTS
        killed = launch(tmp_path, job(kind, name=name, kill_in_save=[moment % 2, at]))
        assert killed.code != 0 and "Signal 9 (SIGKILL)" in killed.output, killed.output[-3000:]
        again = launch(tmp_path, job(kind, resume=str(tmp_path / name)))
        assert again.code == 0, again.output[-3000:]
        resumed = Finished(tmp_path / name)
        assert [line["step"] for line in resumed.lines("metrics.jsonl")] == [1, 2, 3]
        weights = resumed.weights()
        assert weights.keys() == expected.weights().keys()
        assert all(weights[key].equal(value) for key, value in expected.weights().items()), f"{kind}, operation {at}"
