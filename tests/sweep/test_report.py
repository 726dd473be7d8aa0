"""What the report says of results that are known: means, differences, verdicts, notes, and its formats."""

from __future__ import annotations

import csv
import io

import numpy as np
import pytest

from rosd_kit.errors import RunError
from rosd_kit.sweep.estimate import estimate_time
from rosd_kit.sweep.formats import FORMATS
from rosd_kit.sweep.lease import Owner
from rosd_kit.sweep.report import IN_DOMAIN, OUT_OF_DOMAIN, read_results
from rosd_kit.sweep.store import Store
from tests.sweep.made import finish

WORDS = ("rosd", "localizer=error_quote,full,oracle", "seed=0..2", "steps=2")


def scores(cell, seed, suite, place):
    """`full` gains a quarter in the domain and nothing outside; `oracle` differs by chance only."""
    level = 0.25 if suite == "sums" and cell == 1 else 0.0
    chance = ((place * 7 + seed * 3) % 5 - 2) / 20 if cell == 2 else 0.0
    return 0.5 + level + chance + (place % 3 - 1) / 10


@pytest.fixture
def results(plan, tmp_path):
    finish(tmp_path, plan(*WORDS), scores, problems=60)
    return read_results(tmp_path)


def test_means_differences_and_verdicts(results):
    recipe, full, oracle = results.cells
    assert results.axes == ("localizer",) and [cell.label for cell in results.cells] == ["error_quote", "full", "oracle"]
    assert recipe.differences == {} and recipe.means[IN_DOMAIN].mean == pytest.approx(0.5)
    assert full.means[IN_DOMAIN].mean == pytest.approx(0.75) and full.means[IN_DOMAIN].seeds == 3
    assert full.differences[IN_DOMAIN].estimate.mean == pytest.approx(0.25)
    assert full.differences[IN_DOMAIN].verdict == "better"
    assert full.differences[OUT_OF_DOMAIN].verdict == oracle.differences[IN_DOMAIN].verdict == "no difference shown"
    assert oracle.differences[IN_DOMAIN].adjusted >= oracle.differences[IN_DOMAIN].estimate.p
    assert results.before[IN_DOMAIN].mean == pytest.approx(0.5)
    assert results.measures[OUT_OF_DOMAIN] == ("coins", "clock")
    assert results.shown(suites=True) == [IN_DOMAIN, OUT_OF_DOMAIN, "sums", "coins", "clock"]
    assert results.notes == ()


def test_a_swapped_part_that_is_worse_is_said_to_be_worse(plan, tmp_path):
    finish(tmp_path, plan(*WORDS), lambda cell, *rest: 1 - scores(cell, *rest), problems=60)
    assert read_results(tmp_path).cells[1].differences[IN_DOMAIN].verdict == "worse"


def test_only_seeds_that_both_have_are_compared_and_what_is_missing_is_told(plan, tmp_path):
    finish(tmp_path, plan(*WORDS), scores, leave=2)
    found = read_results(tmp_path)
    assert [len(cell.trials) for cell in found.cells] == [3, 2, 2]
    assert found.cells[1].differences[IN_DOMAIN].estimate.seeds == 2
    assert "not all trials are finished: 7 finished, 2 waiting" in found.notes
    assert "| full | 2/3 |" in FORMATS["markdown"](found, False)


def test_failures_mixtures_and_single_seeds_are_told(plan, tmp_path):
    words = ("rosd", "localizer=error_quote,full", "steps=2")
    finish(tmp_path, plan(*words), scores, leave=1)
    with Store(tmp_path) as store:
        (waiting,) = (row.id for row in store.rows().values() if row.state == "waiting")
        me = Owner.me()
        store.claim([waiting], me, 60)
        store.fail(waiting, me.token, "out of luck")
    notes = " ".join(read_results(tmp_path).notes)
    assert f"trial {waiting} failed: out of luck" in notes and "one seed" in notes
    other = tmp_path / "other"
    finish(other, plan(*words), scores, leave=1)
    with Store(other) as store:
        store.retry(store.rows())
        (first,) = (row for row in store.rows().values() if row.state == "finished")
        store.claim(list(store.rows()), me, 60)
        store.finish(waiting, me.token, {**first.result, "made_with": {**first.result["made_with"], "source": "t"}})
    assert "not all trials were made with the same source" in " ".join(read_results(other).notes)


def test_nothing_finished_is_told(plan, tmp_path):
    finish(tmp_path, plan(*WORDS), scores, leave=9)
    with pytest.raises(RunError, match="no trial of rosd is finished yet"):
        read_results(tmp_path)


def test_different_problems_cannot_be_compared(plan, tmp_path):
    made = plan("rosd", "localizer=error_quote,full", "steps=2")
    finish(tmp_path, made, scores, leave=1)
    with Store(tmp_path) as store:
        (id,) = (row.id for row in store.rows().values() if row.state == "waiting")
        (done,) = (row for row in store.rows().values() if row.state == "finished")
        for evaluation in done.result["evaluations"]:
            evaluation["results"][0]["scores"] = {"other": 1.0}
        me = Owner.me()
        store.claim([id], me, 60)
        store.finish(id, me.token, done.result)
    with pytest.raises(RunError, match="same problems"):
        read_results(tmp_path)


@pytest.mark.parametrize("form", ["markdown", "latex", "csv"])
def test_the_formats_are_as_written_down(results, golden, form):
    golden(f"sweep/report.{form}", FORMATS[form](results, form == "csv") + "\n")


def test_csv_holds_every_number(results):
    lines = list(csv.DictReader(io.StringIO(FORMATS["csv"](results, True))))
    assert len(lines) == 3 * 5
    (line,) = (line for line in lines if line["localizer"] == "full" and line["measure"] == "in domain")
    assert float(line["difference"]) == pytest.approx(0.25) and line["verdict"] == "better"
    assert float(line["difference_low"]) <= 0.25 <= float(line["difference_high"])


def test_curves_are_those_of_the_finished_trials(results):
    assert results.curve(results.cells[1], "rollout/success") == pytest.approx(np.array([[0.15, 0.25]] * 3))
    assert results.curve(results.cells[1], "no such metric").size == 0


def test_plots_are_the_same_bytes_again_and_show_every_combination(results, tmp_path):
    pytest.importorskip("matplotlib", reason="needs the extra `plots`")
    from rosd_kit.sweep.plots import write_plots

    first = {file.name: file.read_bytes() for file in write_plots(results, tmp_path / "a")}
    again = {file.name: file.read_bytes() for file in write_plots(results, tmp_path / "b")}
    assert first == again and set(first) == {"curves.svg", "differences.svg", "domains.svg"}
    for text in (content.decode() for content in first.values()):
        assert "full" in text and "oracle" in text and len(text) < 60_000
    assert "error_quote (the recipe)" in first["curves.svg"].decode()


def test_the_estimate_rests_on_finished_trials(plan, tmp_path):
    made = plan(*WORDS)
    finish(tmp_path, made, scores, leave=4)
    with Store(tmp_path) as store:
        said = estimate_time(made, store.rows(), manager=None, jobs=2)
    assert said == "4 trials left: about 2:00 with 2 at once. This rests on the finished trials of 3 of 3 combinations."
