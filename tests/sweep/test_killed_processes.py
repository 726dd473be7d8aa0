"""Kills real sweeps at many moments, all their processes at once: nothing is lost and nothing is done twice."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from rosd_kit.sweep.report import read_results
from rosd_kit.sweep.scores import IN_DOMAIN
from rosd_kit.sweep.store import FILE, Store
from tests.sweep.conftest import SMALL

WORDS = ("rosd", "seed=0..1", "steps=4", "checkpoint.every=1", *SMALL)
TIMEOUT = 400.0


def start_sweep(out, *more):
    """Start a sweep command."""
    command = [sys.executable, "-m", "rosd_kit", "sweep", *WORDS, "--out", str(out), "--threads", "1", *more]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def rows(folder):
    if not (folder / FILE).is_file():
        return {}
    with Store(folder) as store:
        return store.rows()


def wait(condition, event):
    deadline = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < deadline, f"timed out waiting until {event}"
        time.sleep(0.02)


def kill_all(folder, scheduler):
    """Kill the scheduler and every worker, as a power failure would."""
    scheduler.kill()
    scheduler.wait()
    for row in rows(folder).values():
        if row.holder is not None and row.holder.is_alive():
            os.kill(row.holder.pid, signal.SIGKILL)
    wait(lambda: not any(row.holder and row.holder.is_alive() for row in rows(folder).values()), "all processes are dead")


def moments(folder):
    """Return when to kill: at the start, while a trial starts, between its steps, and while it ends."""
    trials = folder / "trials"
    return {
        "the store exists": lambda: (folder / FILE).is_file(),
        "a trial is claimed": lambda: any(row.holder for row in rows(folder).values()),
        "a worker has taken over": lambda: any((trials).glob("*/.lock")),
        "its first evaluation is written": lambda: any(trials.glob("*/evaluations.jsonl")),
        "a checkpoint is being written": lambda: (
            any(trials.glob("*/checkpoints/.writing-*")) or any(trials.glob("*/checkpoints/step-*2"))
        ),
        "its last checkpoint is written": lambda: any(trials.glob("*/checkpoints/step-*4")) or any(trials.glob("*/model")),
        "a trial is finished": lambda: any(row.state == "finished" for row in rows(folder).values()),
    }


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_a_sweep_killed_at_many_moments_finishes_every_trial_once_with_the_same_numbers(tmp_path):
    folder, starts = tmp_path / "killed" / "rosd", []
    for event, reached in moments(folder).items():
        process = start_sweep(folder.parent)
        wait(reached, event)
        kill_all(folder, process)
        starts.append(sum(row.starts for row in rows(folder).values()))
    together = [start_sweep(folder.parent), start_sweep(folder.parent)]
    assert [process.wait(timeout=TIMEOUT) for process in together] == [0, 0], [p.stdout.read() for p in together]
    undisturbed = start_sweep(tmp_path / "undisturbed")
    assert undisturbed.wait(timeout=TIMEOUT) == 0, undisturbed.stdout.read()
    with Store(folder) as store:
        assert store.finish_counts() == dict.fromkeys(store.rows(), 1) and len(store.rows()) == 2
        killed = store.rows()
    assert starts == sorted(starts) and starts[-1] >= 4
    for id, row in rows(tmp_path / "undisturbed" / "rosd").items():
        assert killed[id].result["evaluations"] == row.result["evaluations"]
        assert losses(folder, id) == losses(tmp_path / "undisturbed" / "rosd", id)
        assert row.starts == 1
    assert read_results(folder).combinations[0].means[IN_DOMAIN].seeds == 2


def losses(folder, id):
    lines = (folder / "trials" / id / "metrics.jsonl").read_text().splitlines()
    return [(record["step"], record.get("train/loss"), record["rollout/success"]) for record in map(json.loads, lines)]


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_two_schedulers_share_a_store_and_an_interrupt_saves_running_trials(tmp_path):
    folder = tmp_path / "rosd"
    first = start_sweep(tmp_path)
    wait(lambda: any(row.holder for row in rows(folder).values()), "a trial is claimed")
    second = start_sweep(tmp_path)
    wait(lambda: sum(row.holder is not None for row in rows(folder).values()) == 2, "both trials run")
    assert len({row.holder.token for row in rows(folder).values()}) == 2
    wait(lambda: any(folder.glob("trials/*/checkpoints/step-*")), "a checkpoint is written")
    for process in (first, second):
        process.send_signal(signal.SIGINT)
    outputs = [process.communicate(timeout=TIMEOUT)[0] for process in (first, second)]
    assert all(row.state in ("waiting", "finished") and row.holder is None for row in rows(folder).values()), outputs
    assert all("stopping: running trials save" in output for output in outputs)
    resumed = start_sweep(tmp_path)
    assert resumed.wait(timeout=TIMEOUT) == 0, resumed.stdout.read()
    with Store(folder) as store:
        assert store.finish_counts() == dict.fromkeys(store.rows(), 1)
