"""The report on known results: means, differences, verdicts, notes and formats."""

from __future__ import annotations

import csv
import io
import re

import numpy as np
import pytest

from rosd_kit.errors import RunError
from rosd_kit.sweep.estimate import estimate_time
from rosd_kit.sweep.formats import FORMATS
from rosd_kit.sweep.lease import LeaseHolder
from rosd_kit.sweep.report import read_results
from rosd_kit.sweep.scores import IN_DOMAIN, OUT_OF_DOMAIN, shown_measures
from rosd_kit.sweep.store import Store
from rosd_kit.sweep.tables import results_report
from tests.sweep.made_up_results import finish

WORDS = ("rosd", "localizer=error_quote,full,oracle", "seed=0..2", "steps=2")


def scores(combination, seed, suite, problem):
    """Return scores where `full` gains 0.25 in domain and nothing outside, and `oracle` differs by chance only."""
    gain = 0.25 if suite == "sums" and combination == 1 else 0.0
    chance = ((problem * 7 + seed * 3) % 5 - 2) / 20 if combination == 2 else 0.0
    return 0.5 + gain + chance + (problem % 3 - 1) / 10


@pytest.fixture
def results(plan, tmp_path):
    finish(tmp_path, plan(*WORDS), scores, problems=60)
    return read_results(tmp_path)


def test_means_differences_and_verdicts_of_known_results(results):
    recipe, full, oracle = results.combinations
    assert results.axes == ("localizer",)
    assert [combination.label for combination in results.combinations] == ["error_quote", "full", "oracle"]
    assert recipe.differences == {} and recipe.means[IN_DOMAIN].mean == pytest.approx(0.5)
    assert full.means[IN_DOMAIN].mean == pytest.approx(0.75) and full.means[IN_DOMAIN].seeds == 3
    assert full.differences[IN_DOMAIN].value.mean == pytest.approx(0.25)
    assert full.differences[IN_DOMAIN].verdict == "better"
    assert full.differences[OUT_OF_DOMAIN].verdict == oracle.differences[IN_DOMAIN].verdict == "no difference shown"
    assert oracle.differences[IN_DOMAIN].adjusted_p >= oracle.differences[IN_DOMAIN].value.p_value
    assert results.before[IN_DOMAIN].mean == pytest.approx(0.5)
    assert results.measures[OUT_OF_DOMAIN] == ("coins", "clock")
    assert shown_measures(results.measures, suites=True) == [IN_DOMAIN, OUT_OF_DOMAIN, "sums", "coins", "clock"]
    assert results.notes == ()


def test_a_combination_that_is_worse_gets_the_verdict_worse(plan, tmp_path):
    finish(tmp_path, plan(*WORDS), lambda combination, *rest: 1 - scores(combination, *rest), problems=60)
    assert read_results(tmp_path).combinations[1].differences[IN_DOMAIN].verdict == "worse"


def test_only_common_seeds_are_compared_and_unfinished_trials_are_noted(plan, tmp_path):
    finish(tmp_path, plan(*WORDS), scores, leave=2)
    results = read_results(tmp_path)
    assert [len(combination.trials) for combination in results.combinations] == [3, 2, 2]
    assert results.combinations[1].differences[IN_DOMAIN].value.seeds == 2
    assert "not all trials are finished: 7 finished, 2 waiting" in results.notes
    assert "| full | 2/3 |" in FORMATS["markdown"](results_report(results, suites=False))


def test_failures_mixed_environments_and_single_seeds_are_noted(plan, tmp_path):
    words = ("rosd", "localizer=error_quote,full", "steps=2")
    finish(tmp_path, plan(*words), scores, leave=1)
    with Store(tmp_path) as store:
        (waiting,) = (row.id for row in store.rows().values() if row.state == "waiting")
        holder = LeaseHolder.this_process()
        store.claim([waiting], holder, 60)
        store.fail(waiting, holder.token, "out of luck")
    notes = " ".join(read_results(tmp_path).notes)
    assert f"trial {waiting} failed: out of luck" in notes and "one seed" in notes
    other = tmp_path / "other"
    finish(other, plan(*words), scores, leave=1)
    with Store(other) as store:
        store.retry(store.rows())
        (first,) = (row for row in store.rows().values() if row.state == "finished")
        store.claim(list(store.rows()), holder, 60)
        store.finish(waiting, holder.token, {**first.result, "made_with": {**first.result["made_with"], "source": "t"}})
    assert "trials differ in source" in " ".join(read_results(other).notes)


def test_a_report_without_finished_trials_is_an_error(plan, tmp_path):
    finish(tmp_path, plan(*WORDS), scores, leave=9)
    with pytest.raises(RunError, match="no trial of rosd is finished yet"):
        read_results(tmp_path)


def test_a_report_whose_trials_failed_says_why(plan, tmp_path):
    finish(tmp_path, plan(*WORDS), scores, leave=9)
    with Store(tmp_path) as store:
        holder = LeaseHolder.this_process()
        claimed = store.claim(list(store.rows()), holder, 60)
        store.fail(claimed.id, holder.token, "out of luck")
    with pytest.raises(
        RunError, match=r"no trial of rosd is finished yet; 1 failed, first: out of luck. Their logs are in logs/"
    ):
        read_results(tmp_path)


def test_trials_on_different_problems_cannot_be_compared(plan, tmp_path):
    finish(tmp_path, plan("rosd", "localizer=error_quote,full", "steps=2"), scores, leave=1)
    with Store(tmp_path) as store:
        (id,) = (row.id for row in store.rows().values() if row.state == "waiting")
        (done,) = (row for row in store.rows().values() if row.state == "finished")
        for evaluation in done.result["evaluations"]:
            evaluation["results"][0]["scores"] = {"other": 1.0}
        holder = LeaseHolder.this_process()
        store.claim([id], holder, 60)
        store.finish(id, holder.token, done.result)
    with pytest.raises(RunError, match="same problems"):
        read_results(tmp_path)


@pytest.mark.parametrize("format", ["markdown", "latex", "csv"])
def test_the_formats_match_their_golden_files(results, golden, format):
    golden(f"sweep/report.{format}", rounded(FORMATS[format](results_report(results, suites=format == "csv"))) + "\n")


def rounded(text: str) -> str:
    """Return a text with its long numbers to nine decimals: processors differ in the last digits of sums."""
    return re.sub(r"-?\d+\.\d{6,}(e-\d+)?", lambda found: repr(round(float(found[0]), 9) + 0.0), text)


def test_csv_contains_every_number(results):
    lines = list(csv.DictReader(io.StringIO(FORMATS["csv"](results_report(results, suites=False)))))
    assert len(lines) == 3 * 5
    (line,) = (line for line in lines if line["localizer"] == "full" and line["measure"] == "in domain")
    assert float(line["difference"]) == pytest.approx(0.25) and line["verdict"] == "better"
    assert float(line["difference_low"]) <= 0.25 <= float(line["difference_high"])


def test_curves_come_from_the_finished_trials(results):
    assert results.curve(results.combinations[1], "rollout/success") == pytest.approx(np.array([[0.15, 0.25]] * 3))
    assert results.curve(results.combinations[1], "no such metric").size == 0


def test_plots_are_reproducible_and_show_every_combination(results, tmp_path):
    pytest.importorskip("matplotlib", reason="needs the extra `plots`")
    from rosd_kit.sweep.plots import write_plots

    first = {file.name: file.read_bytes() for file in write_plots(results, tmp_path / "a")}
    again = {file.name: file.read_bytes() for file in write_plots(results, tmp_path / "b")}
    assert first == again and set(first) == {"curves.svg", "differences.svg", "domains.svg"}
    for text in (content.decode() for content in first.values()):
        assert "full" in text and "oracle" in text and len(text) < 60_000
    assert "error_quote (the recipe)" in first["curves.svg"].decode()


def test_the_time_estimate_uses_finished_trials(plan, tmp_path):
    planned = plan(*WORDS)
    finish(tmp_path, planned, scores, leave=4)
    with Store(tmp_path) as store:
        line = estimate_time(planned, store.rows(), manager=None, jobs=2)
    assert line == "4 trials left: about 2:00 with 2 at once. Based on the finished trials of 3 of 3 combinations."
