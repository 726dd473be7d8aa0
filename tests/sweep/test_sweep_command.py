"""Real sweeps of the embedded model: trials in processes, what they share, and what a finished sweep leaves behind."""

from __future__ import annotations

import json

import pytest
import torch

from rosd_kit.cli import main
from rosd_kit.display import Display
from rosd_kit.files import read_json_lines
from rosd_kit.plugins.manager import PluginManager
from rosd_kit.recipe import load_recipe
from rosd_kit.run.loop import run_recipe
from rosd_kit.sweep.report import read_results
from rosd_kit.sweep.scores import IN_DOMAIN
from rosd_kit.sweep.store import Store
from tests.sweep.conftest import SMALL

WORDS = ("rosd", "localizer=error_quote,full", "steps=2", *SMALL)


def sweep(*words, out):
    """Call `rosd-kit sweep` and return its exit code."""
    with pytest.raises(SystemExit) as end:
        main(["sweep", *words, "--out", str(out), "--threads", "1"])
    return int(end.value.code or 0)


def records(folder, name):
    return list(read_json_lines(folder / name))


def numbers(folder):
    """Return the metrics of every step, without those that measure time."""
    steps = records(folder, "metrics.jsonl")
    return [{name: step[name] for name in step if not name.startswith(("time/", "speed/"))} for step in steps]


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """Return the folder of a finished sweep with two combinations."""
    out = tmp_path_factory.mktemp("sweeps")
    assert sweep(*WORDS, out=out) == 0
    return out / "rosd"


def test_every_trial_finishes_once_and_its_checkpoints_are_removed(swept):
    with Store(swept) as store:
        rows = store.rows()
        assert [row.state for row in rows.values()] == ["finished", "finished"]
        assert store.finish_counts() == dict.fromkeys(rows, 1)
    for id, row in rows.items():
        folder = swept / "trials" / id
        assert row.result["evaluations"] == records(folder, "evaluations.jsonl")
        assert [record["step"] for record in row.result["evaluations"]] == [0, 2]
        assert row.result["made_with"]["threads"] == 1
        assert (folder / "model").is_dir() and not (folder / "checkpoints").exists()


def test_the_evaluation_before_training_is_shared_and_does_not_change_the_results(swept, tmp_path):
    (shared,) = (swept / "evaluations").glob("*.json")
    with Store(swept) as store:
        trials = {row.id: row for row in store.rows().values()}
    assert all(row.result["evaluations"][0]["results"] == json.loads(shared.read_text()) for row in trials.values())
    plugins = PluginManager(selection="builtin")
    last = list(trials)[-1]
    recipe = load_recipe(swept / "trials" / last / "recipe.yaml", registry=plugins.registry)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        run_recipe(recipe, plugins=plugins, out=tmp_path, name="alone", resume=None, display=Display())
    finally:
        torch.set_num_threads(threads)
    assert records(tmp_path / "alone", "evaluations.jsonl") == trials[last].result["evaluations"]

    alone, trial = numbers(tmp_path / "alone"), numbers(swept / "trials" / last)
    assert alone == trial
    assert trial[-1]["train/loss"] > 0


def test_a_trial_says_which_word_of_the_sweep_set_each_value(swept):
    with Store(swept) as store:
        plan = store.plan()
    labels = {trial["id"]: plan["cells"][trial["cell"]]["labels"] for trial in plan["trials"]}
    for id, (localizer,) in labels.items():
        record = json.loads((swept / "trials" / id / "origins.json").read_text())
        assert (record["preset"], record["profile"]) == ("rosd", "micro")
        by_path = {change["path"]: change["origin"] for change in record["changes"]}
        assert by_path["steps"] == "command line"
        assert by_path.get("localizer.name") == ("axis of the sweep" if localizer == "full" else None)
        assert record["origins"]["optimizer.lr"] == "profile micro"


def test_finished_trials_are_not_run_again(swept, capsys):
    with Store(swept) as store:
        before = store.rows()
    assert sweep(*WORDS, out=swept.parent) == 0
    with Store(swept) as store:
        assert store.rows() == before
    assert "2 finished" in capsys.readouterr().out


def test_a_dry_run_estimates_from_finished_trials_and_writes_nothing(swept, capsys):
    before = sorted(path.name for path in swept.rglob("*"))
    assert sweep(*WORDS, "seed=0..1", "--dry-run", out=swept.parent) == 0
    output = capsys.readouterr().out
    assert "4 trials: 2 combinations (grid), 2 seeds" in output
    assert output.count("finished") >= 2 and output.count("new") == 2
    assert "2 trials left: about" in output and "Based on the finished trials of 2 of 2 combinations" in output
    assert sorted(path.name for path in swept.rglob("*")) == before


def test_the_report_prints_markdown_and_writes_plots(swept, tmp_path, capsys):
    pytest.importorskip("matplotlib", reason="needs the extra `plots`")
    with pytest.raises(SystemExit) as end:
        main(["sweep", "report", str(swept), "--format", "markdown", "--plots", str(tmp_path)])
    assert not end.value.code
    output = capsys.readouterr().out
    assert "| localizer | seeds | % (95 %) | difference (95 %) | p (Holm) | verdict |" in output
    assert "the recipe |" in output and "one seed" in output
    assert sorted(path.name for path in tmp_path.glob("*.svg")) == ["curves.svg", "differences.svg", "domains.svg"]
    assert read_results(swept).combinations[0].means[IN_DOMAIN].seeds == 1


def test_a_trial_that_cannot_run_reports_why_and_suggests_a_retry(tmp_path, capsys):
    words = ("rosd", "seed=0..1", "steps=1", "model.path=./nowhere", *SMALL)
    assert sweep(*words, "--jobs", "2", out=tmp_path) == 1
    output = capsys.readouterr().out
    assert "2 failed" in output and "nowhere" in output and "--retry" in output
    with Store(tmp_path / "rosd") as store:
        first = store.rows()
    assert all(row.state == "failed" and "nowhere" in row.error for row in first.values())
    assert sweep(*words, out=tmp_path) == 1
    with Store(tmp_path / "rosd") as store:
        assert store.rows() == first
