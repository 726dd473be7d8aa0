"""Runs of the embedded model in one process and in several."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from torch import Tensor

from tests.distributed.worker import work

WORKER = str(Path(__file__).with_name("worker.py"))
TINY = (
    "steps=2",
    "problems_per_step=4",
    "group_size=4",
    "model.device=cpu",
    "sampling.max_new_tokens=40",
    "batch.tokens=400",
    "optimizer.warmup_steps=0",
    "evaluation.problems=3",
    "evaluation.samples=2",
    "checkpoint.every=1",
    "parallel.timeout_minutes=0.5",
)


class Finished:
    """A run that was made, as its folder shows it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def lines(self, name: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.path / name).read_text().splitlines()]

    def numbers(self) -> list[dict[str, float]]:
        """Return the metrics that do not depend on how fast things went or who held what."""
        apart = ("time/", "speed/", "train/weight_change")
        return [{k: v for k, v in line.items() if not k.startswith(apart)} for line in self.lines("metrics.jsonl")]

    def weights(self) -> dict[str, Tensor]:
        return load_file(self.path / "model/model.safetensors")


def launch(out: Path, jobs: Sequence[dict[str, Any]], processes: int = 2) -> subprocess.CompletedProcess[str]:
    """Run jobs in several processes and return when all of them have ended."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    environment = {**os.environ, "WITNESS": str(out), "OMP_NUM_THREADS": "1"}
    command = [*launcher, WORKER, str(out), json.dumps(list(jobs))]
    return subprocess.run(command, capture_output=True, text=True, timeout=240, env=environment)


@pytest.fixture
def alone(monkeypatch):
    """Run jobs in this process."""

    def run(out: Path, *jobs: dict[str, Any]) -> None:
        monkeypatch.setenv("WITNESS", str(out))
        work(out, list(jobs))

    return run
