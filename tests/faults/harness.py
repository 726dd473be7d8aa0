"""Runs of the command line in forked processes, to which things may be done; see tests/run/harness.py."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors.torch import load_file

from rosd_kit.files import read_json_lines
from tests.run.conftest import TINY

FORKS = Path(__file__).parents[1] / "run/harness.py"
CHANGES = (*TINY, "steps=3", "checkpoint.keep=1", "optimizer.lr=1e-3")


class Harness:
    """A process that forks a child for each job. `changes` are made to the tiny recipe of every run."""

    def __init__(self, runs: Path, process: subprocess.Popen[str], *, changes: Sequence[str] = ()) -> None:
        self.runs, self.process, self.changes = runs, process, (*CHANGES, *changes)

    def do(self, *jobs: dict[str, Any]) -> list[dict[str, Any]]:
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(json.dumps(jobs) + "\n")
        self.process.stdin.flush()
        found: list[dict[str, Any]] = json.loads(self.process.stdout.readline())
        return found

    def begin(self, name: str, *changes: str, quiet: bool = True, **job: Any) -> dict[str, Any]:
        arguments = ["run", "rosd", *self.changes, *changes, "--out", str(self.runs), "--name", name]
        return {"args": [*arguments, *["--quiet"] * quiet], **job}

    def go_on(self, name: str, *changes: str, **job: Any) -> dict[str, Any]:
        """Return the job that resumes a run, or begins it where there is nothing to resume yet."""
        folder = self.runs / name
        if (folder / "recipe.yaml").is_file():
            return {"args": ["run", "--resume", str(folder), *changes, "--quiet"], **job}
        assert not folder.is_dir() or all(path.name.startswith(".") for path in folder.iterdir()), "it cannot be resumed"
        return self.begin(name, **job)

    def whole(self, name: str, **job: Any) -> tuple[int, float]:
        """Run undisturbed; return how many operations were counted, and the seconds it took."""
        [done] = self.do(self.begin(name, **job))
        assert done["code"] == 0, done["told"]
        counted = re.search(r"operations: (\d+)", done["told"])
        assert counted
        return int(counted.group(1)), done["seconds"]

    def finish(self, name: str, **job: Any) -> None:
        """Go on with a run to its end."""
        [done] = self.do(self.go_on(name, **job))
        assert done["code"] == 0, done["told"]

    def assert_same(self, one: str, other: str) -> None:
        """Weights, metrics' steps and sampled ids of two runs are the same, bit for bit."""
        found, expected = (load_file(self.runs / name / "model/model.safetensors") for name in (one, other))
        assert found.keys() == expected.keys() and all(found[key].equal(expected[key]) for key in found)
        assert [line["step"] for line in self.lines(one, "metrics.jsonl")] == [1, 2, 3]
        for file in sorted((self.runs / other / "samples").iterdir()):
            ids = [[line["token_ids"] for line in self.lines(name, f"samples/{file.name}")] for name in (one, other)]
            assert ids[0] == ids[1], file.name

    def lines(self, name: str, file: str) -> list[dict[str, Any]]:
        return list(read_json_lines(self.runs / name / file))


@contextmanager
def started(runs: Path, *before: str) -> Iterator[Harness]:
    """Start the process, behind the words of another command such as `unshare`, and end it."""
    with subprocess.Popen(
        [*before, sys.executable, str(FORKS), str(runs)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    ) as process:
        yield Harness(runs, process)
        assert process.stdin
        process.stdin.close()
