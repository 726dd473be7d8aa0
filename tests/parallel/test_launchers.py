"""Real launchers: the processes that they start, and signals that they forward to them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from rosd_kit.cli import main
from tests.parallel.conftest import ROOT, TINY
from tests.processes import processes_below

pytestmark = pytest.mark.timeout(900)  # parallel.timeout_minutes ends a hang earlier

FSDP2 = """
compute_environment: LOCAL_MACHINE
distributed_type: FSDP
fsdp_config: {fsdp_version: 2}
mixed_precision: 'no'
num_machines: 1
num_processes: 2
"""
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
ACCELERATE = ["-m", "accelerate.commands.launch"]
ENDLESS = ["run", "rosd", *TINY, "steps=10000", "group_size=2", "--name", "run"]


def start(launcher: list[str], out: Path, *words: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    command = [sys.executable, *launcher, "-m", "rosd_kit", *words, "--out", str(out)]
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def wait_for_a_step(run: Path, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 400
    while not (run / "metrics.jsonl").exists():
        assert process.poll() is None and time.monotonic() < deadline, process.communicate(timeout=60)[0][-3000:]
        time.sleep(0.1)


@pytest.mark.parametrize(
    ("launcher", "signum", "mode"),
    [(TORCHRUN, signal.SIGTERM, "ddp"), pytest.param("accelerate", signal.SIGINT, "fsdp", marks=pytest.mark.slow)],
    ids=["torchrun", "accelerate"],
)
def test_an_interrupted_launcher_lets_every_process_finish_the_step_and_save(tmp_path, launcher, signum, mode):
    if launcher == "accelerate":
        (tmp_path / "fsdp2.yaml").write_text(FSDP2)
        launcher = [*ACCELERATE, "--config_file", str(tmp_path / "fsdp2.yaml")]
    process = start(launcher, tmp_path, *ENDLESS)
    wait_for_a_step(tmp_path / "run", process)
    workers = psutil.Process(process.pid).children(recursive=True)
    assert len(processes_below(process.pid, naming="rosd_kit")) >= 2
    process.send_signal(signum)
    output, _ = process.communicate(timeout=300)
    _, alive = psutil.wait_procs(workers, timeout=60)
    assert not alive
    assert f"in 2 processes ({mode})" in output
    assert "stopped after step" in output and output.count("stopping after this step") == 1
    steps = [json.loads(line)["step"] for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert (tmp_path / f"run/checkpoints/step-{steps[-1]:06d}/manifest.json").is_file()


def test_accelerate_starting_one_process_on_cpus_is_an_error(tmp_path, monkeypatch, capsys):
    """accelerate starts a script that shows its environment; the run starts in that environment, in this process."""
    script = tmp_path / "environment.py"
    script.write_text("import json, os; print(json.dumps(dict(os.environ)))")
    command = [sys.executable, *ACCELERATE, "--cpu", "--num_processes", "2", str(script)]
    shown = subprocess.run(command, capture_output=True, text=True, check=True, timeout=400).stdout.splitlines()
    (environment,) = [json.loads(line) for line in shown if line.startswith("{")]
    for name in environment.keys() - os.environ.keys():
        monkeypatch.setenv(name, environment[name])
    with pytest.raises(SystemExit) as end:
        main([*ENDLESS, "--out", str(tmp_path)])
    error = capsys.readouterr().err
    assert end.value.code == 2 and not (tmp_path / "run").exists()
    assert "error: parallel: accelerate launch started one process" in error and "parallel.mode=single" in error
