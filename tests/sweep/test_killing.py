"""Real trials of real sweepers that are killed, all of them, at many moments: nothing is lost, nothing is done twice."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from rosd_kit.sweep.report import IN_DOMAIN, read_results
from rosd_kit.sweep.store import FILE, Store
from tests.sweep.conftest import SMALL

WORDS = ("rosd", "seed=0..1", "steps=4", "checkpoint.every=1", *SMALL)
PATIENCE = 400.0


def begin(out, *more):
    """Start a sweeper."""
    command = [sys.executable, "-m", "rosd_kit", "sweep", *WORDS, "--out", str(out), "--threads", "1", *more]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def rows(folder):
    if not (folder / FILE).is_file():
        return {}
    with Store(folder) as store:
        return store.rows()


def wait(condition, what):
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain until {what}"
        time.sleep(0.02)


def kill_all(folder, sweeper):
    """Kill the sweeper and every process that works on a trial, as a machine that loses power would."""
    sweeper.kill()
    sweeper.wait()
    for row in rows(folder).values():
        if row.owner is not None and row.owner.is_alive():
            os.kill(row.owner.pid, signal.SIGKILL)
    wait(lambda: not any(row.owner and row.owner.is_alive() for row in rows(folder).values()), "all were dead")


def moments(folder):
    """Return when to kill: at the very beginning, while a trial starts, between its steps, while it ends."""
    trials = folder / "trials"
    return {
        "the store is there": lambda: (folder / FILE).is_file(),
        "a trial is claimed": lambda: any(row.owner for row in rows(folder).values()),
        "a trial's process has taken over": lambda: any((trials).glob("*/.lock")),
        "its first evaluation is there": lambda: any(trials.glob("*/evaluations.jsonl")),
        "a checkpoint is being written": lambda: (
            any(trials.glob("*/checkpoints/.writing-*")) or any(trials.glob("*/checkpoints/step-*2"))
        ),
        "its last checkpoint is there": lambda: any(trials.glob("*/checkpoints/step-*4")) or any(trials.glob("*/model")),
        "one is finished": lambda: any(row.state == "finished" for row in rows(folder).values()),
    }


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_a_sweep_killed_at_many_moments_finishes_every_trial_once_with_the_same_numbers(tmp_path):
    folder, starts = tmp_path / "killed" / "rosd", []
    for what, reached in moments(folder).items():
        sweeper = begin(folder.parent)
        wait(reached, what)
        kill_all(folder, sweeper)
        starts.append(sum(row.starts for row in rows(folder).values()))
    together = [begin(folder.parent), begin(folder.parent)]
    assert [sweeper.wait(timeout=PATIENCE) for sweeper in together] == [0, 0], [s.stdout.read() for s in together]
    calm = begin(tmp_path / "calm")
    assert calm.wait(timeout=PATIENCE) == 0, calm.stdout.read()
    with Store(folder) as store:
        assert store.finishes() == dict.fromkeys(store.rows(), 1) and len(store.rows()) == 2
        killed = store.rows()
    assert starts == sorted(starts) and starts[-1] >= 4
    for id, row in rows(tmp_path / "calm" / "rosd").items():
        assert killed[id].result["evaluations"] == row.result["evaluations"]
        assert losses(folder, id) == losses(tmp_path / "calm" / "rosd", id)
        assert row.starts == 1
    assert read_results(folder).cells[0].means[IN_DOMAIN].seeds == 2


def losses(folder, id):
    lines = (folder / "trials" / id / "metrics.jsonl").read_text().splitlines()
    return [(record["step"], record.get("train/loss"), record["rollout/success"]) for record in map(json.loads, lines)]


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_two_sweepers_share_a_store_and_an_interrupt_saves_what_runs(tmp_path):
    folder = tmp_path / "rosd"
    first = begin(tmp_path)
    wait(lambda: any(row.owner for row in rows(folder).values()), "a trial is claimed")
    second = begin(tmp_path)
    wait(lambda: sum(row.owner is not None for row in rows(folder).values()) == 2, "both work")
    assert len({row.owner.token for row in rows(folder).values()}) == 2
    wait(lambda: any(folder.glob("trials/*/checkpoints/step-*")), "a checkpoint is there")
    for sweeper in (first, second):
        sweeper.send_signal(signal.SIGINT)
    said = [sweeper.communicate(timeout=PATIENCE)[0] for sweeper in (first, second)]
    left = rows(folder)
    assert all(row.state in ("waiting", "finished") and row.owner is None for row in left.values()), said
    assert all("stopping: the running trials save" in text for text in said)
    again = begin(tmp_path)
    assert again.wait(timeout=PATIENCE) == 0, again.stdout.read()
    with Store(folder) as store:
        assert store.finishes() == dict.fromkeys(store.rows(), 1)
