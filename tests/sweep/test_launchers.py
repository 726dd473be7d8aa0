"""Launchers: processes, a real Ray cluster on this machine, and submitit's local executor."""

from __future__ import annotations

import sys
import time

import pytest

from rosd_kit.errors import RunError
from rosd_kit.sweep.launchers import Command, make_launcher
from rosd_kit.sweep.launchers.base import run_and_wait
from rosd_kit.sweep.store import Store
from tests.sweep.conftest import SMALL
from tests.sweep.test_sweep_command import sweep


def exit_codes(launcher, tmp_path, *scripts):
    """Launch Python scripts and return their exit codes."""
    handles = [
        launcher.launch(
            Command(argv=(sys.executable, "-c", script), log=tmp_path / f"{slot}.log", cwd=tmp_path, threads=1, gpu=False),
            slot,
        )
        for slot, script in enumerate(scripts)
    ]
    deadline = time.monotonic() + 600
    while any(handle.poll() is None for handle in handles) and time.monotonic() < deadline:
        time.sleep(0.05)
    return [handle.poll() for handle in handles]


SCRIPTS = (
    "import os; print('threads', os.environ['OMP_NUM_THREADS'])",
    "raise SystemExit(14)",
    "import os; os.kill(os.getpid(), 9)",
)


def test_processes_report_their_exit_codes_and_write_logs(tmp_path):
    assert exit_codes(make_launcher("processes", {}), tmp_path, *SCRIPTS) == [0, 14, -9]
    assert (tmp_path / "0.log").read_text() == "threads 1\n"


def test_a_cluster_task_waits_for_its_command_and_returns_its_exit_code(tmp_path):
    script = "import os; print(os.getcwd()); raise SystemExit(14)"
    assert run_and_wait((sys.executable, "-c", script), str(tmp_path / "log"), str(tmp_path), 1) == 14
    assert (tmp_path / "log").read_text() == f"{tmp_path}\n"


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [("processs", {}, "Did you mean 'processes'"), ("processes", {"partition": "gpu"}, "takes no options")],
)
def test_an_unknown_launcher_or_option_is_an_error(name, options, message):
    with pytest.raises(RunError, match=message):
        make_launcher(name, options)


@pytest.mark.slow
def test_ray_runs_a_sweep_on_a_real_local_cluster(tmp_path):
    ray = pytest.importorskip("ray", reason="needs the extra `ray`")
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        launcher = make_launcher("ray", {})
        assert launcher.jobs == 2
        assert exit_codes(launcher, tmp_path, *SCRIPTS) == [0, 14, -9]
        assert sweep("rosd", "localizer=error_quote,full", "steps=1", *SMALL, "--launcher", "ray", out=tmp_path) == 0
    finally:
        ray.shutdown()
    with Store(tmp_path / "rosd") as store:
        assert store.finish_counts() == dict.fromkeys(store.rows(), 1) and len(store.rows()) == 2


@pytest.mark.slow
def test_submitit_runs_a_sweep_by_its_local_executor(tmp_path):
    pytest.importorskip("submitit", reason="needs the extra `slurm`")
    local = {"cluster": "local", "timeout_min": "10"}
    assert exit_codes(make_launcher("slurm", local), tmp_path, *SCRIPTS) == [0, 14, -9]
    options = [word for name, value in local.items() for word in ("--launcher-option", f"{name}={value}")]
    words = ("rosd", "localizer=error_quote,full", "steps=1", *SMALL, "--launcher", "slurm", "--jobs", "2", *options)
    assert sweep(*words, out=tmp_path) == 0
    with Store(tmp_path / "rosd") as store:
        assert store.finish_counts() == dict.fromkeys(store.rows(), 1) and len(store.rows()) == 2


def test_slurm_reports_invalid_options(tmp_path):
    pytest.importorskip("submitit", reason="needs the extra `slurm`")
    launcher = make_launcher("slurm", {"cluster": "nowhere"})
    with pytest.raises(RunError, match="--launcher-option"):
        launcher.launch(Command(argv=("true",), log=tmp_path / "log", cwd=tmp_path, threads=1, gpu=False), 0)
