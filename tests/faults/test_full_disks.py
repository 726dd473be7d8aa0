"""Disks that are really full: a small tmpfs in a mount namespace of the test's own."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest

from rosd_kit.training.checkpoint import list_checkpoints, load_checkpoint
from tests.faults.harness import Harness, started

ALONE = ("unshare", "--mount", "--propagation", "private")
MOUNTS = (
    shutil.which("unshare")
    and subprocess.run([*ALONE, "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True).returncode == 0
)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not MOUNTS, reason="mounting a tmpfs in a namespace is not allowed here"),
]

#: Disks of so many bytes from the beginning, and disks that are filled up in a step until so many bytes are left. A checkpoint
#: takes about 8 MB, the exported model 3 MB.
SMALL = (40_000, 3_000_000, 9_000_000)
LEFT = ((1, 0), (2, 4096), (2, 2_000_000), (3, 9_500_000))


@pytest.fixture(scope="module")
def harness(tmp_path_factory):
    runs = tmp_path_factory.mktemp("full-disks") / "runs"
    runs.mkdir()
    # the runs' folder is visible in the namespace only; what a test wants to see of it is copied out
    with started(runs, *ALONE) as found:
        yield found


@pytest.fixture(scope="module")
def whole(harness) -> str:
    harness.whole("whole", shell=f"mount -t tmpfs -o size=200m none {harness.runs}")
    return "whole"


def copied_out(harness: Harness, name: str) -> dict:
    """Return the job that copies a run's folder to where the test sees it, and does nothing else."""
    seen = harness.runs.with_name("seen") / name
    shutil.rmtree(seen, ignore_errors=True)
    seen.parent.mkdir(exist_ok=True)
    return {"args": ["--help"], "shell": f"cp -r {harness.runs / name} {seen}"}


def check(harness: Harness, name: str, whole: str, failed: dict) -> str:
    """The run ended as it should, what it left is whole, and it goes on when there is room; returns the file it named."""
    assert failed["code"] == 2, failed["told"]
    assert "Traceback" not in failed["told"]
    told = re.search(
        rf"error: {harness.runs}/(?:{name}/)?(\S+?): cannot be (?:written|made)[^\n]*(?:full|space)", failed["told"]
    )
    assert told, failed["told"]
    harness.do({**copied_out(harness, name), "shell": copied_out(harness, name)["shell"] + " || true"})
    seen = Harness(harness.runs.with_name("seen"), harness.process)
    for checkpoint in list_checkpoints(seen.runs / name / "checkpoints"):
        load_checkpoint(checkpoint)
    room = f"rm -f {harness.runs}/ballast; mount -o remount,size=200m {harness.runs}"
    begun = (seen.runs / name / "recipe.yaml").is_file()
    again = {"args": ["run", "--resume", str(harness.runs / name), "--quiet"]} if begun else harness.begin(name)
    [done] = harness.do({**again, "shell": room})
    assert done["code"] == 0, done["told"]
    harness.do(copied_out(harness, name), copied_out(harness, whole))
    seen.assert_same(name, whole)
    harness.do({"args": ["--help"], "shell": f"rm -rf {harness.runs / name}"})
    return told.group(1).split("/")[0]


@pytest.fixture(scope="module")
def named() -> set[str]:
    return set()


@pytest.mark.parametrize("size", SMALL)
def test_a_disk_that_is_too_small(harness, whole, named, size):
    ballast = harness.runs / "ballast"
    shrunk = f"head -c 200m /dev/zero > {ballast} 2> /dev/null; truncate -s -{size} {ballast}"
    [failed] = harness.do(harness.begin(f"small-{size}", shell=shrunk))
    named.add(check(harness, f"small-{size}", whole, failed))


@pytest.mark.parametrize(("step", "left"), LEFT)
def test_a_disk_that_fills_up_in_a_step(harness, whole, named, step, left):
    fill = {"step": step, "file": str(harness.runs / "ballast"), "leave": left}
    [failed] = harness.do(harness.begin(f"left-{left}", "checkpoint.keep=3", fill=fill))
    named.add(check(harness, f"left-{left}", whole, failed))


def test_all_kinds_of_files_were_hit(named):
    assert named >= {"metrics.jsonl", "checkpoints", "model"}, named
