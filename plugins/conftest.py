"""Fixtures for the tests of all packages: a short run of a recipe from the command line, and a run that stops and goes on."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported: the workers share the cores

import rosd_kit as rk
from rosd_kit.files import read_json_lines

# The machine may be busy; pytest-timeout ends what hangs.
settings.register_profile("rosd-kit", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("rosd-kit")


@dataclass(frozen=True)
class ShortRun:
    """The results of a run: one record per step, one per gated rollout, its folder and its output."""

    steps: list[dict[str, Any]]
    samples: list[dict[str, Any]]
    folder: Path
    output: str

    def total(self, name: str) -> float:
        """Return the sum of a metric over the steps; a step without it counts as 0."""
        return sum(step.get(name, 0.0) for step in self.steps)


@pytest.fixture
def short_run(tmp_path: Path) -> Callable[..., ShortRun]:
    """Return a function that runs a recipe, with overrides, for two small steps without evaluation."""

    def run(recipe: Path, *overrides: str, folder: Path | None = None, environment: dict[str, str] | None = None) -> ShortRun:
        folder = folder or tmp_path / "run"
        small = ("steps=2", "problems_per_step=8", "group_size=6", "evaluation.problems=0", "checkpoint.every=0")
        command = [sys.executable, "-m", "rosd_kit", "run", str(recipe), *small, *overrides]
        command += ["--out", str(folder.parent), "--name", folder.name]
        process = subprocess.run(
            command, env={**os.environ, **(environment or {})}, capture_output=True, text=True, timeout=600
        )
        output = process.stdout + process.stderr
        assert process.returncode == 0, output
        steps = _records(folder / "metrics.jsonl")
        records = [record for file in sorted((folder / "samples").iterdir()) for record in _records(file)]
        samples = [record for record in records if record["status"] != "left_out"]
        assert [step["step"] for step in steps] == [1, 2]
        assert all(step["train/applied"] == 1.0 for step in steps)
        return ShortRun(steps, samples, folder, output)

    return run


@pytest.fixture
def parted_run(tmp_path: Path) -> Callable[..., list[dict[str, Any]]]:
    """Return a function that runs a recipe in this process, goes on after `stop` of its `steps`, and returns the metrics."""

    def run(recipe: Path, *overrides: str, stop: int, steps: int) -> list[dict[str, Any]]:
        small = ("problems_per_step=4", "group_size=4", "sampling.max_new_tokens=64", "evaluation.problems=0")
        words = [*small, "checkpoint.every=1", "samples.every=0", *overrides]
        rk.train(recipe, overrides=[*words, f"steps={stop}"], out=tmp_path, name="parted")
        result = rk.train(resume=tmp_path / "parted", overrides=[f"steps={steps}"])
        assert [line["step"] for line in result.metrics] == list(range(1, steps + 1))
        return result.metrics

    return run


def _records(file: Path) -> list[dict[str, Any]]:
    return list(read_json_lines(file))
