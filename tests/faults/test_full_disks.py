"""Runs on a full disk: a small tmpfs in a separate mount namespace."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest

from rosd_kit.training.checkpoint import list_checkpoints, load_checkpoint
from tests.faults.harness import Harness, started

UNSHARE = ("unshare", "--mount", "--propagation", "private")
MOUNTS = (
    shutil.which("unshare")
    and subprocess.run([*UNSHARE, "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True).returncode == 0
)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not MOUNTS, reason="this machine does not allow mounting a tmpfs in a namespace"),
]

#: Free bytes at the start, and (step, bytes left) of disks that fill up during a step. A checkpoint takes about 8 MB, the
#: exported model 3 MB.
FREE_AT_START = (40_000, 3_000_000, 9_000_000)
LEFT_IN_STEP = ((1, 0), (2, 4096), (2, 2_000_000), (3, 9_500_000))


@pytest.fixture(scope="module")
def harness(tmp_path_factory):
    runs = tmp_path_factory.mktemp("full-disks") / "runs"
    runs.mkdir()
    # Only the namespace sees the runs' folder; `copy_out` copies runs to where the tests see them.
    with started(runs, *UNSHARE) as harness:
        yield harness


@pytest.fixture(scope="module")
def undisturbed(harness) -> str:
    harness.run_undisturbed("undisturbed", shell=f"mount -t tmpfs -o size=200m none {harness.runs}")
    return "undisturbed"


def copy_out(harness: Harness, name: str) -> dict:
    """Return the job that only copies a run's folder to where the test sees it."""
    copy = harness.runs.with_name("copies") / name
    shutil.rmtree(copy, ignore_errors=True)
    copy.parent.mkdir(exist_ok=True)
    return {"args": ["--help"], "shell": f"cp -r {harness.runs / name} {copy}"}


def check(harness: Harness, name: str, undisturbed: str, failed: dict) -> str:
    """Assert that the run ended with an error, left nothing broken and resumes with free space; return the file it named."""
    assert failed["code"] == 2, failed["output"]
    assert "Traceback" not in failed["output"]
    error = re.search(
        rf"error: {harness.runs}/(?:{name}/)?(\S+?): cannot be (?:written|created)[^\n]*(?:full|space)", failed["output"]
    )
    assert error, failed["output"]
    harness.do({**copy_out(harness, name), "shell": copy_out(harness, name)["shell"] + " || true"})
    copies = Harness(harness.runs.with_name("copies"), harness.process)
    for checkpoint in list_checkpoints(copies.runs / name / "checkpoints"):
        load_checkpoint(checkpoint)
    free_space = f"rm -f {harness.runs}/ballast; mount -o remount,size=200m {harness.runs}"
    can_resume = (copies.runs / name / "recipe.yaml").is_file()
    job = {"args": ["run", "--resume", str(harness.runs / name), "--quiet"]} if can_resume else harness.start(name)
    [result] = harness.do({**job, "shell": free_space})
    assert result["code"] == 0, result["output"]
    harness.do(copy_out(harness, name), copy_out(harness, undisturbed))
    copies.assert_same(name, undisturbed)
    harness.do({"args": ["--help"], "shell": f"rm -rf {harness.runs / name}"})
    return error.group(1).split("/")[0]


@pytest.fixture(scope="module")
def named_files() -> set[str]:
    """Collect the files that the errors name."""
    return set()


@pytest.mark.parametrize("size", FREE_AT_START)
def test_a_run_on_a_disk_that_is_too_small_fails_and_resumes(harness, undisturbed, named_files, size):
    ballast = harness.runs / "ballast"
    fill_disk = f"head -c 200m /dev/zero > {ballast} 2> /dev/null; truncate -s -{size} {ballast}"
    [failed] = harness.do(harness.start(f"small-{size}", shell=fill_disk))
    named_files.add(check(harness, f"small-{size}", undisturbed, failed))


@pytest.mark.parametrize(("step", "left"), LEFT_IN_STEP)
def test_a_run_on_a_disk_that_fills_up_fails_and_resumes(harness, undisturbed, named_files, step, left):
    fill = {"step": step, "file": str(harness.runs / "ballast"), "leave": left}
    [failed] = harness.do(harness.start(f"left-{left}", "checkpoint.keep=3", fill=fill))
    named_files.add(check(harness, f"left-{left}", undisturbed, failed))


def test_the_full_disk_hit_metrics_checkpoints_and_model(named_files):
    assert named_files >= {"metrics.jsonl", "checkpoints", "model"}, named_files
