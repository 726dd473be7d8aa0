"""What a running sweep shows: the progress of each trial, and the settings and results of trials that have ended."""

from __future__ import annotations

import io
import json
from math import isnan

import pytest
from rich.console import Console

from rosd_kit.sweep.lease import LeaseHolder
from rosd_kit.sweep.live_table import LiveTable
from rosd_kit.sweep.progress import TrialProgress, describe_end, read_progress, seconds_left, trial_labels
from rosd_kit.sweep.store import Store
from tests.sweep.made_up_results import finish


@pytest.fixture
def folder(plan, tmp_path):
    """Write a sweep of two combinations and two seeds: two trials are finished, one has taken 3 of 8 steps, one waits."""
    made = plan("rosd", "localizer=error_quote,full", "seed=0..1", "steps=8")
    finish(tmp_path, made, lambda combination, seed, suite, index: float(combination or index % 4 == 0), leave=2)
    running = made.trials[2].id
    with Store(tmp_path) as store:
        assert store.claim([running], LeaseHolder.this_process(), 60) is not None
    path = tmp_path / "trials" / running
    path.mkdir(parents=True)
    lines = [json.dumps({"step": step, "time/step": 2.0, "rollout/success": 0.1 * step}) for step in (1, 2, 3)]
    (path / "metrics.jsonl").write_text("\n".join(lines) + '\n{"step": 4, "rollout/succ')
    result = {"suite": "sums", "in_domain": True, "mean": 0.625, "low": 0.5, "high": 0.75, "problems": 2, "samples": 1,
              "format_rate": 1.0, "mean_tokens": 9.0, "scores": {"a": 1.0, "b": 0.25}}  # fmt: skip
    (path / "evaluations.jsonl").write_text(json.dumps({"step": 2, "results": [result]}) + "\n")
    return tmp_path, made


def test_progress_is_read_from_the_files_of_the_trials(folder):
    path, made = folder
    with Store(path) as store:
        progress = read_progress(path, store, made.ids)
    assert [one.state for one in progress.values()] == ["finished", "finished", "running", "waiting"]
    running, waiting = progress[made.ids[2]], progress[made.ids[3]]
    assert (running.step, running.score, running.seconds_per_step) == (3, 0.625, 2.0)
    assert running.success == pytest.approx(0.3)
    assert waiting.step == 0 and isnan(waiting.score)
    labels = trial_labels(made)
    begun = {id: progress[id] for id in made.ids[2:]}
    assert seconds_left(labels, begun, jobs=1) == 5 * 2.0 + 8 * 2.0
    assert seconds_left(labels, begun, jobs=4) == 8 * 2.0
    assert seconds_left(labels, {made.ids[3]: waiting}, jobs=1) is None


def test_the_time_left_counts_what_finished_trials_took_besides_their_steps(folder):
    path, made = folder
    with Store(path) as store:
        progress = read_progress(path, store, made.ids)
    assert [one.seconds for one in progress.values()] == [60.0, 60.0, 0.0, 0.0]
    assert seconds_left(trial_labels(made), progress, jobs=1) == (5 + 8) * 60.0 / 8


@pytest.mark.parametrize(("step", "words"), [(0, ["starting", "0/8"]), (8, ["evaluating", "8/8"])])
def test_a_trial_before_its_first_and_after_its_last_step_is_not_called_running(folder, step, words):
    _, made = folder
    console = Console(file=io.StringIO(), width=80, record=True)
    progress = {made.ids[0]: TrialProgress(state="running", step=step, seconds_per_step=2.0 * bool(step))}
    table = LiveTable(console=console, axes=["localizer"], labels=trial_labels(made), jobs=1, read=lambda: progress)
    console.print(table.table(progress))
    assert console.export_text().splitlines()[1].split()[2:] == words


def test_the_table_fits_80_columns_and_shows_running_trials_first(folder):
    path, made = folder
    console = Console(file=io.StringIO(), width=80, height=24, force_terminal=True, color_system=None, record=True)
    with Store(path) as store:
        progress = read_progress(path, store, made.ids)
    table = LiveTable(console=console, axes=["localizer"], labels=trial_labels(made), jobs=1, read=lambda: progress)
    console.print(table.table(progress))
    lines = [line.rstrip() for line in console.export_text().splitlines()]
    assert lines[0].split() == ["localizer", "seed", "state", "step", "held-out", "%", "rollouts", "%", "left"]
    name, seed = made.labels(made.combinations[made.trials[2].combination])[0], str(made.trials[2].seed)
    assert lines[1].split() == [name, seed, "running", "3/8", "62.5", "30.0", "0:10"]
    assert lines[-1] == "2 finished, 1 running, 1 waiting; about 1:37 left"
    assert max(map(len, lines)) <= 80


def test_a_low_terminal_gets_fewer_rows_and_is_told_what_is_missing(folder):
    path, made = folder
    console = Console(file=io.StringIO(), width=80, height=8, record=True)
    with Store(path) as store:
        progress = read_progress(path, store, made.ids)
    table = LiveTable(console=console, axes=["localizer"], labels=trial_labels(made), jobs=1, read=lambda: progress)
    console.print(table.table(progress))
    lines = console.export_text().splitlines()
    assert len(lines) == 5 and lines[1].split()[2] == "running" and lines[3].rstrip() == "and 1 finished, 1 waiting more"


def test_the_end_of_a_trial_says_its_combination_and_its_result(folder):
    path, made = folder
    labels = trial_labels(made)
    with Store(path) as store:
        rows = store.rows(made.ids)
    assert describe_end(labels[made.ids[0]], ["localizer"], rows[made.ids[0]]) == (
        "localizer=error_quote, seed 0, held-out 50.0 -> 25.0 %, in 1:00"
    )
    last, seed = labels[made.ids[3]].values[0], made.trials[3].seed
    assert describe_end(labels[made.ids[3]], ["localizer"], rows[made.ids[3]]) == f"localizer={last}, seed {seed}"
