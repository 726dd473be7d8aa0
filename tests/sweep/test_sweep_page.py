"""The page of a sweep has the numbers of `sweep report`, every trial's curves and a link to its own page."""

from __future__ import annotations

import base64
import gzip
import json
import re
from types import SimpleNamespace

import numpy as np
import pytest

from rosd_kit.cli import main
from rosd_kit.errors import RunError
from rosd_kit.report.comparison_page import write_sweep_report
from rosd_kit.sweep.plan import write_plan
from rosd_kit.sweep.report import read_results
from rosd_kit.sweep.scores import IN_DOMAIN
from rosd_kit.sweep.store import Store
from tests.sweep.made_up_results import finish


def score(combination: int, seed: int, suite: str, index: int) -> float:
    return float((index + seed) % 4 < 1 + combination * (suite == "sums"))


@pytest.fixture
def swept(plan, tmp_path):
    made = plan("rosd", "localizer=error_quote,full", "seed=0..2", "steps=2")
    finish(tmp_path, made, score)
    with Store(tmp_path) as store:
        for id, row in store.rows().items():
            (tmp_path / "trials" / id / "recipe.yaml").write_text(row.recipe)
    return tmp_path


def unpack(file):
    packed = re.search(r'id="comparison">([^<]*)<', file.read_text())[1]
    return json.loads(gzip.decompress(base64.b64decode(packed)))


def test_the_page_has_the_numbers_of_the_report_and_links_every_trial(swept, capsys):
    with pytest.raises(SystemExit) as end:
        main(["report", str(swept)])
    assert not end.value.code and f"{swept}/report.html: " in capsys.readouterr().out
    data, results = unpack(swept / "report.html"), read_results(swept)
    inside = next(measure for measure in data["measures"] if measure["name"] == IN_DOMAIN)
    difference = results.combinations[1].differences[IN_DOMAIN]
    assert inside["rows"][1]["difference"]["mean"] == difference.value.mean == pytest.approx(0.25)
    assert (inside["rows"][1]["p"], inside["rows"][1]["verdict"]) == (difference.adjusted_p, difference.verdict)
    assert inside["rows"][0]["verdict"] == "the recipe"
    assert data["groups"] == ["error_quote", "full"] and len(data["runs"]) == 6
    for run in data["runs"]:
        assert (swept / run["link"]).is_file() and run["metrics"]["rollout/success"] and run["state"] == "finished"
    assert ["localizer.name", ['"error_quote"', '"full"']] in data["options"]
    assert not any(path == "seed" for path, _ in data["options"])


def test_a_page_of_a_trial_is_written_again_only_when_the_trial_has_changed(swept):
    write_sweep_report(swept)
    page = next(swept.glob("trials/*/report.html"))
    page.write_text("kept")
    write_sweep_report(swept)
    assert page.read_text() == "kept"
    metrics = page.parent / "metrics.jsonl"
    metrics.write_text(metrics.read_text() + '{"step": 3}\n')
    write_sweep_report(swept)
    assert page.read_text() != "kept"


def test_a_sweep_without_a_finished_trial_and_a_sweep_among_runs_are_refused(swept, plan, tmp_path, capsys):
    empty = tmp_path / "empty"
    with Store(empty, create=True) as store:
        write_plan(plan("rosd", "seed=0..1", "steps=2"), store, [])
    with pytest.raises(RunError, match="no trial of rosd is finished yet"):
        write_sweep_report(empty)
    with pytest.raises(SystemExit) as end:
        main(["report", str(swept), str(swept / "trials")])
    assert end.value.code == 2 and "is a sweep's folder. Give it alone" in capsys.readouterr().err


def test_plotted_curves_that_hide_each_other_get_a_panel_each(tmp_path):
    figures = pytest.importorskip("matplotlib.figure", reason="needs the extra `plots`")
    from rosd_kit.sweep.plots import _plot_curves

    def panels(second: list[float]) -> int:
        combinations = tuple(SimpleNamespace(label=name, means={"x": 1}) for name in "ab")
        curves = {"a": np.array([[0.1, 0.2]]), "b": np.array([second])}
        results = SimpleNamespace(
            combinations=combinations, name="sweep", curve=lambda combination, metric: curves[combination.label]
        )
        figure = figures.Figure()
        assert _plot_curves(results, figure)
        return sum(axes.get_visible() for axes in figure.axes)

    assert panels([0.1, 0.205]) == 2
    assert panels([0.1, 0.3]) == 1
