"""Runs of the embedded model in one process and in several."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from rosd_kit.files import read_json_lines

ROOT = Path(__file__).parents[2]
TINY = (
    "steps=2",
    "problems_per_step=4",
    "group_size=4",
    "model.device=cpu",
    "sampling.max_new_tokens=40",
    "verifier.truncated=score",
    "batch.tokens=400",
    "optimizer.warmup_steps=0",
    "evaluation.problems=0",
    "evaluation.samples=2",
    "checkpoint.every=1",
    "parallel.timeout_minutes=10",
)

Job = dict[str, Any]


@dataclass(frozen=True)
class LaunchResult:
    """The result of a launch: its exit code, and the output of all processes."""

    code: int
    output: str

    @property
    def cause(self) -> str:
        """What the output says about a failure: where a process crashed, or else its end."""
        crash = self.output.find("Fatal Python error")
        return self.output[-3000:] if crash < 0 else self.output[crash : crash + 6000]


Launch = Callable[..., LaunchResult]


class Finished:
    """A finished run, read from its folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def lines(self, name: str) -> list[dict[str, Any]]:
        return list(read_json_lines(self.path / name))

    def numbers(self) -> list[dict[str, float]]:
        """Return the metrics that depend neither on speed nor on how samples were sharded."""
        excluded = ("time/", "speed/", "train/weight_change")
        return [{k: v for k, v in line.items() if not k.startswith(excluded)} for line in self.lines("metrics.jsonl")]

    def weights(self) -> dict[str, Tensor]:
        return load_file(self.path / "model/model.safetensors")


@pytest.fixture(scope="session")
def launch() -> Iterator[Launch]:
    """Run jobs in several processes and return when all of them have ended."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    command = [sys.executable, "-m", "tests.parallel.worker"]
    server = subprocess.Popen(
        command, cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    )
    assert server.stdin is not None and server.stdout is not None

    def launch(out: Path, *jobs: Job, processes: int = 2) -> LaunchResult:
        print(json.dumps({"out": str(out), "jobs": jobs, "processes": processes}), file=server.stdin, flush=True)
        return LaunchResult(**json.loads(server.stdout.readline()))

    yield launch
    server.stdin.close()
    server.wait(120)


@pytest.fixture(scope="session")
def alone() -> Iterator[Callable[..., None]]:
    """Run jobs in this process."""
    from tests.parallel.worker import work

    before = torch.get_num_threads()
    torch.set_num_threads(1)

    def run(out: Path, *jobs: Job) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("WITNESS", str(out))
            work(out, list(jobs))

    yield run
    torch.set_num_threads(before)
