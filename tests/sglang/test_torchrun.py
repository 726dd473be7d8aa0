"""Several ranks under torchrun with real servers: every rank's rollouts train as those of one process with transformers.

Each case takes minutes: `.ci/torchrun` runs all twelve, and those with launched servers also with one that is killed.
"""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from rosd_kit.files import read_json_lines
from rosd_kit.model.micro.model import base_path
from rosd_kit.model.student import Student
from rosd_kit.serving.server import ServerProcess, free_port
from rosd_kit.settings import ModelSettings
from rosd_kit.sglang.launch import launch_commands
from rosd_kit.sglang.options import Launch
from tests.processes import processes_below
from tests.sglang.conftest import ONE_THREAD, ROOT, launch_options
from tests.sglang.test_runs import arguments, run

ALL = itertools.product(("ddp", "fsdp"), ("disk", "tensor", "distributed"), ("launch", "url"), (False, True))
CASES = [case for case in ALL if not (case[2] == "url" and case[3])]
NAMES = ("train/loss", "train/grad_norm", "train/weighted_tokens", "rollout/success", "rollout/length", "tokens/reflect")
STEPS = 3


@pytest.fixture(scope="module")
def expected(tmp_path_factory) -> list[dict]:
    folder = run(tmp_path_factory.mktemp("alone"), f"steps={STEPS}", "evaluation.problems=0")
    return list(read_json_lines(folder / "metrics.jsonl"))


@pytest.fixture(scope="module")
def two_servers(python, tmp_path_factory) -> Iterator[list[str]]:
    """Start two servers that belong to nobody; engines wait until they are ready."""
    folder = tmp_path_factory.mktemp("servers")
    student = Student.load(ModelSettings(path=str(base_path()), device="cpu"), keep_initial=False)
    with ExitStack() as stack:
        commands = launch_commands(
            student, Launch(**launch_options(python, servers=2)), folder=folder, colocated=False, api_key=None
        )
        for number, command in enumerate(commands):
            process = ServerProcess(command, folder / f"{number}.log")
            process.start()
            stack.callback(process.stop)
        yield [command.url for command in commands]


@pytest.mark.timeout(900)
@pytest.mark.slow
@pytest.mark.parametrize(("mode", "sync", "how", "killed"), CASES)
def test_ranks_with_servers_train_as_one_process_with_transformers(
    python, expected, tmp_path, request, mode, sync, how, killed
):
    where = [f"rollout.launch.python={python}", ONE_THREAD]
    if how == "url":
        where = [f"rollout.url=[{','.join(request.getfixturevalue('two_servers'))}]", "rollout.patience=400"]
    changes = [
        f"steps={STEPS}",
        "evaluation.problems=0",
        "rollout=sglang",
        "model.device=cpu",
        f"rollout.sync={sync}",
        f"parallel.mode={mode}",
        *where,
    ]
    torchrun = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc-per-node",
        "2",
        "--master-port",
        str(free_port("127.0.0.1")),
    ]
    with (tmp_path / "output").open("wb") as output:
        ranks = subprocess.Popen(
            [*torchrun, "-m", "rosd_kit", *arguments(tmp_path, *changes)],
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            if killed:
                _kill_a_server(ranks, tmp_path / "rosd-1/metrics.jsonl")
            code = ranks.wait(800)
        finally:
            ranks.terminate()
            ranks.wait()
    assert code == 0, (tmp_path / "output").read_text()[-3000:]
    steps = list(read_json_lines(tmp_path / "rosd-1/metrics.jsonl"))
    assert len(steps) == STEPS
    for step, one in zip(steps, expected, strict=True):
        assert {name: step[name] for name in NAMES} == pytest.approx({name: one[name] for name in NAMES}, rel=1e-3)
        assert step["train/engine_mismatch"] < 1e-4
    assert steps[0]["train/loss"] > 0 and steps[0]["train/weighted_tokens"] > 0
    restarts = sum(step.get("engine/relaunches", 0) for step in steps)
    assert (restarts > 0) is killed


def _kill_a_server(ranks: subprocess.Popen, metrics: Path) -> None:
    """Kill one server of one rank as soon as a step is finished."""
    deadline = time.monotonic() + 700
    while not metrics.exists() or not metrics.read_text():
        assert ranks.poll() is None and time.monotonic() < deadline, "no step was finished"
        time.sleep(0.1)
    processes_below(ranks.pid, naming="sglang.launch_server")[-1].kill()
