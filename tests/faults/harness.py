"""Runs the command line in forked processes that can be killed or disturbed; see tests/run/harness.py."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors.torch import load_file

from rosd_kit.files import read_json_lines
from tests.run.conftest import TINY

SERVER = Path(__file__).parents[1] / "run/harness.py"
CHANGES = (*TINY, "steps=3", "checkpoint.keep=1", "optimizer.lr=1e-3")


class Harness:
    """Sends jobs to a process that forks a child for each. `changes` are overrides of the tiny recipe of every run."""

    def __init__(self, runs: Path, process: subprocess.Popen[str], *, changes: Sequence[str] = ()) -> None:
        self.runs, self.process, self.changes = runs, process, (*CHANGES, *changes)

    def do(self, *jobs: dict[str, Any]) -> list[dict[str, Any]]:
        """Run jobs one after another; return their exit codes, outputs and seconds."""
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(json.dumps(jobs) + "\n")
        self.process.stdin.flush()
        results: list[dict[str, Any]] = json.loads(self.process.stdout.readline())
        return results

    def start(self, name: str, *changes: str, quiet: bool = True, **job: Any) -> dict[str, Any]:
        """Return the job that starts a run."""
        arguments = ["run", "rosd", *self.changes, *changes, "--out", str(self.runs), "--name", name]
        return {"args": [*arguments, *["--quiet"] * quiet], **job}

    def resume(self, name: str, *changes: str, **job: Any) -> dict[str, Any]:
        """Return the job that resumes a run, or starts it if there is nothing to resume yet."""
        folder = self.runs / name
        if (folder / "recipe.yaml").is_file():
            return {"args": ["run", "--resume", str(folder), *changes, "--quiet"], **job}
        empty = not folder.is_dir() or all(path.name.startswith(".") for path in folder.iterdir())
        assert empty, "the folder is not empty, but cannot be resumed"
        return self.start(name, **job)

    def run_undisturbed(self, name: str, **job: Any) -> tuple[int, float]:
        """Run to the end; return the number of file operations and the seconds."""
        [result] = self.do(self.start(name, **job))
        assert result["code"] == 0, result["output"]
        operations = re.search(r"operations: (\d+)", result["output"])
        assert operations
        return int(operations.group(1)), result["seconds"]

    def finish(self, name: str, **job: Any) -> None:
        """Resume a run to its end."""
        [result] = self.do(self.resume(name, **job))
        assert result["code"] == 0, result["output"]

    def assert_same(self, one: str, other: str) -> None:
        """Assert that the weights, the steps and the sampled ids of two runs are equal, bit for bit."""
        weights, expected = (load_file(self.runs / name / "model/model.safetensors") for name in (one, other))
        assert weights.keys() == expected.keys() and all(weights[key].equal(expected[key]) for key in weights)
        assert [line["step"] for line in self.lines(one, "metrics.jsonl")] == [1, 2, 3]
        for file in sorted((self.runs / other / "samples").iterdir()):
            ids = [[line["token_ids"] for line in self.lines(name, f"samples/{file.name}")] for name in (one, other)]
            assert ids[0] == ids[1], file.name

    def lines(self, name: str, file: str) -> list[dict[str, Any]]:
        return list(read_json_lines(self.runs / name / file))


@contextmanager
def started(runs: Path, *before: str, environment: Mapping[str, str] | None = None) -> Iterator[Harness]:
    """Start the process, with another command like `unshare` before it, and end it afterwards.

    `environment` replaces that of this process.
    """
    with subprocess.Popen(
        [*before, sys.executable, str(SERVER), str(runs)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**(os.environ if environment is None else environment), "OMP_NUM_THREADS": "1"},
    ) as process:
        yield Harness(runs, process)
        assert process.stdin
        process.stdin.close()
