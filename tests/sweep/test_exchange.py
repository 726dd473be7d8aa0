"""Results of finished trials go into a file and, elsewhere, finish the same trials."""

from __future__ import annotations

import gzip
import json

import pytest

from rosd_kit.cli import main
from rosd_kit.errors import RunError
from rosd_kit.sweep.exchange import export_results, import_results
from rosd_kit.sweep.lease import LeaseHolder
from rosd_kit.sweep.plan import write_plan
from rosd_kit.sweep.report import read_results
from rosd_kit.sweep.store import Store
from tests.sweep.conftest import SMALL
from tests.sweep.made_up_results import finish

WORDS = ("rosd", "localizer=error_quote,full", "seed=0..1", "steps=2", *SMALL)


@pytest.fixture
def half(plan, tmp_path):
    """Return the plan of four trials and the folder of a sweep in which three are finished."""
    planned = plan(*WORDS)
    finish(tmp_path / "here", planned, lambda combination, seed, suite, problem: 0.25 * (combination + problem % 2), leave=1)
    return planned, tmp_path / "here"


@pytest.mark.parametrize("name", ["results.jsonl", "results.jsonl.gz"])
def test_results_finish_the_same_trials_elsewhere(half, tmp_path, name):
    plan, here = half
    with Store(here) as store:
        assert export_results(store, tmp_path / name) == 3
        expected = store.rows()
    with Store(tmp_path / "there", create=True) as store:
        write_plan(plan, store, [])
        assert import_results(store, plan.ids, tmp_path / name) == 3
        assert import_results(store, plan.ids, tmp_path / name) == 0
        rows = store.rows()
        assert {id: (row.state, row.result) for id, row in rows.items()} == {
            id: (row.state, row.result) for id, row in expected.items()
        }
        assert store.finish_counts() == {id: 1 for id, row in rows.items() if row.state == "finished"}
    assert read_results(tmp_path / "there").combinations == read_results(here).combinations


def test_a_file_says_what_each_trial_was_and_does_not_depend_on_the_order_of_trials(half, tmp_path):
    plan, here = half
    with Store(here) as store:
        export_results(store, tmp_path / "results.jsonl")
        export_results(store, tmp_path / "again.jsonl.gz")
    text = (tmp_path / "results.jsonl").read_text()
    assert gzip.decompress((tmp_path / "again.jsonl.gz").read_bytes()).decode() == text
    rows = [json.loads(line) for line in text.splitlines()]
    assert [row["id"] for row in rows] == sorted(row["id"] for row in rows)
    trials = {trial.id: trial for trial in plan.trials}
    for row in rows:
        trial = trials[row["id"]]
        assert row["seed"] == trial.seed
        assert row["combination"] == {"localizer": ("error_quote", "full")[trial.combination]}


def test_trials_that_somebody_works_on_and_those_of_other_sweeps_are_left_alone(half, tmp_path):
    plan, here = half
    with Store(here) as store:
        export_results(store, tmp_path / "results.jsonl")
    with Store(tmp_path / "there", create=True) as store:
        write_plan(plan, store, [])
        held = store.claim([plan.trials[0].id], LeaseHolder.this_process(), 60)
        assert import_results(store, [held.id, plan.trials[1].id, "unknown"], tmp_path / "results.jsonl") == 1
        states = [store.rows()[trial.id].state for trial in plan.trials]
    assert states == ["running", "finished", "waiting", "waiting"]


@pytest.mark.parametrize(
    "line",
    [
        "no json",
        "[]",
        '{"id": "a"}',
        '{"id": "a", "result": {"evaluations": []}}',
        '{"id": "a", "result": null}',
        '{"id": "a", "result": {"evaluations": [{"step": 0, "results": [{"suite": 3}]}], "resumed": false, "made_with": {}, '
        '"warnings": [], "seconds": 1}}',
        "\ud800",
    ],
)
def test_a_damaged_file_is_refused_and_changes_nothing(half, tmp_path, line):
    plan, here = half
    file = tmp_path / "results.jsonl"
    with Store(here) as store:
        export_results(store, file)
    file.write_bytes(file.read_bytes() + line.encode(errors="surrogatepass"))
    with Store(tmp_path / "there", create=True) as store:
        write_plan(plan, store, [])
        with pytest.raises(RunError, match=r"results.jsonl.*cannot be read as results of a sweep.*sweep export"):
            import_results(store, plan.ids, file)
        assert {row.state for row in store.rows().values()} == {"waiting"}


def test_files_that_are_missing_or_not_compressed_are_refused(half, tmp_path):
    plan, here = half
    (tmp_path / "plain.gz").write_text("{}")
    with Store(here) as store:
        for name in ("missing.jsonl", "plain.gz"):
            with pytest.raises(RunError, match=f"{name}.*sweep export"):
                import_results(store, plan.ids, tmp_path / name)


def test_a_sweep_takes_finished_trials_from_a_file_and_runs_the_rest(half, tmp_path, capsys):
    """On the command line: what was finished in one folder does not run in another one."""

    def rosd(*words):
        with pytest.raises(SystemExit) as end:
            main(["sweep", *words])
        assert not end.value.code
        return capsys.readouterr().out

    plan, here = half
    file = str(tmp_path / "results.jsonl.gz")
    assert "3 finished trials" in rosd("export", str(here), file)
    output = rosd(*WORDS, "--threads", "1", "--keep", "results", "--out", str(tmp_path / "there"), "--results", file)
    assert "3 trials are finished in" in output and "4 finished" in output
    with Store(tmp_path / "there/rosd") as store:
        rows = store.rows()
        assert export_results(store, tmp_path / "all.jsonl.gz") == 4
    ran = [folder.name for folder in (tmp_path / "there/rosd/trials").iterdir() if folder.is_dir()]
    assert len(rows) == 4 and len(ran) == 1
    with Store(tmp_path / "third", create=True) as store:  # a real trial's result survives the file, too
        write_plan(plan, store, [])
        assert import_results(store, plan.ids, tmp_path / "all.jsonl.gz") == 4
        assert {id: row.result for id, row in store.rows().items()} == {id: row.result for id, row in rows.items()}
    training = rows[ran[0]].result["training"]
    assert training["train/loss"] > 0 and training["rollout/count"] == 32 and "step" not in training
