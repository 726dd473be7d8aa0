"""SIGKILL at any moment, and files that cannot grow, in processes of their own."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from rosd_kit.training.checkpoint import list_checkpoints, load_checkpoint

HARNESS = Path(__file__).parent / "harness.py"
PLACES = 8
CHANGES = ("steps=3", "checkpoint.keep=1", "optimizer.lr=1e-3")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return tmp_path_factory.mktemp("killed") / "runs"


@pytest.fixture(scope="module")
def work(runs):
    """Have the harness do jobs and return what came of each."""
    with subprocess.Popen(
        [sys.executable, HARNESS, str(runs)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    ) as harness:

        def work(jobs: list[dict]) -> list[dict]:
            harness.stdin.write(json.dumps(jobs) + "\n")
            harness.stdin.flush()
            return json.loads(harness.stdout.readline())

        yield work
        harness.stdin.close()


@pytest.fixture(scope="module")
def begin(runs, tiny):
    def begin(name: str, **job) -> dict:
        return {"args": ["run", "rosd", *tiny, *CHANGES, "--out", str(runs), "--name", name, "--quiet"], **job}

    return begin


@pytest.fixture(scope="module")
def killed(runs, work, begin):
    """Run undisturbed, then for each place: be killed there, and again while going on, and go on to the end."""
    [whole] = work([begin("whole")])
    assert whole["code"] == 0, whole["output"]
    operations = int(re.search(r"operations: (\d+)", whole["output"]).group(1))
    jobs = {}
    for place in range(PLACES):
        name = f"at-{place}"
        jobs[name, "killed"] = begin(name, kill_at=max(2, operations * (2 * place + 1) // (2 * PLACES)))
    jobs["boundary", "killed"] = begin("boundary", kill_in_step=2)
    jobs["twice", "killed"] = begin("twice", kill_at=operations * 2 // 3)
    results = dict(zip(jobs, work(list(jobs.values())), strict=True))
    resumed = {}
    for name, _ in jobs:
        folder = runs / name
        again = {"args": ["run", "--resume", str(folder), "--quiet"]}
        if name == "twice":
            resumed[name, "killed again"] = {**again, "kill_at": 40}
        resumed[name, "resumed"] = again if (folder / "recipe.yaml").is_file() else begin(name)
    return results | dict(zip(resumed, work(list(resumed.values())), strict=True))


@pytest.mark.parametrize("name", [*(f"at-{place}" for place in range(PLACES)), "boundary", "twice"])
def test_a_killed_run_resumes_bit_for_bit(runs, killed, open_run, same, name):
    assert killed[name, "killed"]["code"] == -9
    if name == "twice":
        assert killed[name, "killed again"]["code"] == -9
    assert killed[name, "resumed"]["code"] == 0, killed[name, "resumed"]["output"]
    whole, found = open_run(runs / "whole"), open_run(runs / name)
    assert same(whole.weights(), found.weights())
    assert whole.sampled() == found.sampled()
    assert whole.lines("evaluations.jsonl") == found.lines("evaluations.jsonl")
    assert [line["step"] for line in found.lines("metrics.jsonl")] == [1, 2, 3]
    assert [path.name for path in found.path.glob(".*")] == [".lock"]
    assert [load_checkpoint(path).step for path in list_checkpoints(found.path / "checkpoints")] == [3]


def test_a_run_in_a_new_process_gives_the_same_numbers(runs, killed, run, same, tmp_path):
    here = run(tmp_path / "here", *CHANGES)
    there = type(here)(runs / "whole")
    assert same(here.weights(), there.weights())
    assert here.sampled() == there.sampled()


def test_files_that_cannot_grow_end_the_run_with_the_old_checkpoint_intact(runs, work, begin, run, same, open_run, tmp_path):
    path = runs / "full"
    first = begin("full")
    first["args"].append("steps=1")
    again = {"args": ["run", "--resume", str(path), "steps=3", "--quiet"]}
    before, full, after = work([first, {**again, "largest": 100_000}, again])
    assert before["code"] == 0, before["output"]
    assert full["code"] == 2
    assert re.search(r"error: \S*checkpoints/step-000002: cannot be written: .*too large.*--resume", full["output"])
    assert "Traceback" not in full["output"]
    assert after["code"] == 0, after["output"]
    assert load_checkpoint(path / "checkpoints/step-000003").step == 3
    assert same(open_run(path).weights(), run(tmp_path / "whole", *CHANGES).weights())
