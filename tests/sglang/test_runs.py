"""`rosd-kit run` with SGLang from end to end: the same training as with transformers, and no process left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from rosd_kit.cli import main
from rosd_kit.files import read_json_lines
from tests.leaves import numbers_in
from tests.processes import processes_below
from tests.sglang.conftest import ONE_THREAD, ROOT

#: Almost greedy, so that two engines with different random numbers sample the same tokens; reflections are greedy anyway.
NEARLY_GREEDY = [
    "sampling.temperature=0.0001",
    "gate=all",
    "demonstration=reference",
    "group_size=2",
    "problems_per_step=8",
    "steps=4",
    "optimizer.warmup_steps=0",
    "optimizer.lr=0.001",
    "evaluation.problems=4",
    "evaluation.samples=1",
    "evaluation.temperature=0",
    "checkpoint.every=1",
]


def arguments(out: Path, *changes: str) -> list[str]:
    return ["run", str(ROOT / "recipes/rosd.yaml"), "--out", str(out), "--quiet", *NEARLY_GREEDY, *changes]


def run(out: Path, *changes: str) -> Path:
    """Run in this process and return the run folder."""
    with pytest.raises(SystemExit) as exit_:
        main(arguments(out, *changes))
    assert not exit_.value.code
    return out / "rosd-1"


def read(folder: Path, name: str) -> list[dict]:
    return list(read_json_lines(folder / name))


@pytest.fixture(scope="module")
def with_transformers(tmp_path_factory) -> Path:
    return run(tmp_path_factory.mktemp("transformers"))


def assert_same_training(folder: Path, other: Path) -> list[dict]:
    """Compare two runs' steps and evaluations; return the steps of the first."""
    names = ["train/loss", "train/grad_norm", "train/weighted_tokens", "rollout/success", "rollout/length", "tokens/reflect"]
    steps = read(folder, "metrics.jsonl")
    assert len(steps) == 4
    for step, expected in zip(steps, read(other, "metrics.jsonl"), strict=True):
        assert {name: step[name] for name in names} == pytest.approx({name: expected[name] for name in names}, rel=1e-3)
    evaluations, expected = (numbers_in(read(one, "evaluations.jsonl")) for one in (folder, other))
    assert evaluations == pytest.approx(expected, rel=1e-3, abs=1e-5)
    return steps


def test_a_run_trains_as_with_transformers(server, with_transformers, tmp_path):
    folder = run(tmp_path, "rollout=sglang", f"rollout.url={server.command.url}", "rollout.patience=400")
    steps = assert_same_training(folder, with_transformers)
    assert all(step["train/engine_mismatch"] < 1e-4 and step["engine/probe_max"] < 1e-3 for step in steps)
    assert steps[0]["train/loss"] > 0 and steps[0]["train/weighted_tokens"] > 0


def test_with_a_server_that_keeps_the_initial_weights_none_are_swapped(python, with_transformers, tmp_path):
    where = f"rollout={{name: sglang, launch: {{python: {python}, initial_servers: 1}}}}"
    folder = run(tmp_path, where, ONE_THREAD)
    assert_same_training(folder, with_transformers)
    transfers = {log.name: log.read_text().count("POST /update_weights_from_disk") for log in folder.glob("*.log")}
    assert transfers == {"sglang.log": 1 + 4, "sglang-initial.log": 1}


def test_a_run_whose_server_is_gone_stops_with_an_error_and_can_be_resumed(python, server, tmp_path, capsys):
    folder = run(tmp_path, "steps=2", "rollout=sglang", f"rollout.url={server.command.url}", "rollout.patience=400")
    unreachable = ["rollout.url=http://127.0.0.1:9", "rollout.patience=1"]
    with pytest.raises(SystemExit) as exit_:
        main(["run", "--resume", str(folder), "--quiet", "steps=3", *unreachable])
    message = " ".join(capsys.readouterr().err.split())
    assert exit_.value.code == 2 and "no healthy SGLang server at http://127.0.0.1:9 after 1 s" in message
    with pytest.raises(SystemExit) as exit_:
        main(["run", "--resume", str(folder), "--quiet", "steps=3"])
    assert not exit_.value.code and [step["step"] for step in read(folder, "metrics.jsonl")] == [1, 2, 3]


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_a_launched_server_stops_with_the_run(python, tmp_path, sent):
    changes = ["steps=1000", "evaluation.problems=0", "rollout=sglang", f"rollout.launch.python={python}", ONE_THREAD]
    command = [sys.executable, "-m", "rosd_kit", *arguments(tmp_path, *changes)]
    process = subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, stderr=subprocess.DEVNULL)
    metrics = tmp_path / "rosd-1/metrics.jsonl"
    deadline = time.monotonic() + 280
    while not metrics.exists() and time.monotonic() < deadline:
        assert process.poll() is None
        time.sleep(0.2)
    below = psutil.Process(process.pid).children(recursive=True)
    assert processes_below(process.pid, naming="sglang")
    process.send_signal(sent)
    process.wait(120)
    _, alive = psutil.wait_procs(below, timeout=60)
    assert not alive
    if sent == signal.SIGINT:
        assert list((tmp_path / "rosd-1/checkpoints").iterdir()), "an interrupt finishes the step and saves a checkpoint"
