"""Sweeps where the trials are put elsewhere: a real Ray cluster of this machine, and submitit's local executor."""

from __future__ import annotations

import sys
import time

import pytest

from rosd_kit.errors import RunError
from rosd_kit.sweep.launchers import Command, make_launcher
from rosd_kit.sweep.launchers.base import run_to_its_end
from rosd_kit.sweep.store import Store
from tests.sweep.conftest import SMALL
from tests.sweep.test_sweeping import sweep


def codes(launcher, tmp_path, *commands):
    """Launch python commands and return their exit codes."""
    handles = [
        launcher.launch(
            Command(command=(sys.executable, "-c", text), log=tmp_path / f"{place}.log", cwd=tmp_path, threads=1, gpu=False),
            place,
        )
        for place, text in enumerate(commands)
    ]
    deadline = time.monotonic() + 240
    while any(handle.poll() is None for handle in handles) and time.monotonic() < deadline:
        time.sleep(0.05)
    return [handle.poll() for handle in handles]


COMMANDS = (
    "import os; print('threads', os.environ['OMP_NUM_THREADS'])",
    "raise SystemExit(14)",
    "import os; os.kill(os.getpid(), 9)",
)


def test_processes_tell_how_they_ended_and_keep_what_was_said(tmp_path):
    assert codes(make_launcher("processes", {}), tmp_path, *COMMANDS) == [0, 14, -9]
    assert (tmp_path / "0.log").read_text() == "threads 1\n"


def test_a_command_on_a_cluster_runs_to_its_end(tmp_path):
    look = "import os; print(os.getcwd()); raise SystemExit(14)"
    assert run_to_its_end((sys.executable, "-c", look), str(tmp_path / "log"), str(tmp_path), 1) == 14
    assert (tmp_path / "log").read_text() == f"{tmp_path}\n"


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [("processs", {}, "Did you mean 'processes'"), ("processes", {"partition": "gpu"}, "takes none")],
)
def test_a_launcher_that_cannot_be_is_told(name, options, said):
    with pytest.raises(RunError, match=said):
        make_launcher(name, options)


@pytest.mark.slow
def test_ray_runs_a_sweep_on_a_real_local_cluster(tmp_path):
    ray = pytest.importorskip("ray", reason="needs the extra `ray`")
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        launcher = make_launcher("ray", {})
        assert launcher.jobs == 2
        assert codes(launcher, tmp_path, *COMMANDS) == [0, 14, -9]
        assert sweep("rosd", "localizer=error_quote,full", "steps=1", *SMALL, "--launcher", "ray", out=tmp_path) == 0
    finally:
        ray.shutdown()
    with Store(tmp_path / "rosd") as store:
        assert store.finishes() == dict.fromkeys(store.rows(), 1) and len(store.rows()) == 2


@pytest.mark.slow
def test_submitit_runs_a_sweep_by_its_local_executor(tmp_path):
    pytest.importorskip("submitit", reason="needs the extra `slurm`")
    local = {"cluster": "local", "timeout_min": "10"}
    assert codes(make_launcher("slurm", local), tmp_path, *COMMANDS) == [0, 14, -9]
    options = [word for name, value in local.items() for word in ("--launcher-option", f"{name}={value}")]
    words = ("rosd", "localizer=error_quote,full", "steps=1", *SMALL, "--launcher", "slurm", "--jobs", "2", *options)
    assert sweep(*words, out=tmp_path) == 0
    with Store(tmp_path / "rosd") as store:
        assert store.finishes() == dict.fromkeys(store.rows(), 1) and len(store.rows()) == 2


def test_slurm_tells_what_it_does_not_understand(tmp_path):
    pytest.importorskip("submitit", reason="needs the extra `slurm`")
    launcher = make_launcher("slurm", {"cluster": "nowhere"})
    with pytest.raises(RunError, match="--launcher-option"):
        launcher.launch(Command(command=("true",), log=tmp_path / "log", cwd=tmp_path, threads=1, gpu=False), 0)
