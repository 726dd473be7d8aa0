"""What the axes of a sweep change, on known results: pairs, splits, unfinished trials, errors and formats."""

from __future__ import annotations

import csv
import io

import pytest

from rosd_kit.cli import main
from rosd_kit.errors import RunError
from rosd_kit.sweep.effects import read_effects
from rosd_kit.sweep.formats import FORMATS
from rosd_kit.sweep.report import read_results
from rosd_kit.sweep.scores import IN_DOMAIN, OUT_OF_DOMAIN
from rosd_kit.sweep.tables import effects_report
from tests.sweep.made_up_results import finish

#: The combinations are (error_quote, jsd), (error_quote, reverse_kl), (full, jsd), (full, reverse_kl).
WORDS = ("rosd", "localizer=error_quote,full", "divergence=jsd,reverse_kl", "seed=0..2", "steps=2")


def scores(combination, seed, suite, problem):
    """Return scores where `full` gains 0.3 in domain with the JSD alone, and the reverse KL loses 0.2 outside it everywhere."""
    full, reverse = divmod(combination, 2)
    change = 0.3 * full * (1 - reverse) if suite == "sums" else -0.2 * reverse
    return 0.5 + change + (problem % 3 - 1) / 10


@pytest.fixture
def swept(plan, tmp_path):
    finish(tmp_path, plan(*WORDS), scores, problems=60)
    return tmp_path


def of(effects, axis):
    return [one for one in effects.effects if one.axis == axis]


def test_an_effect_is_the_mean_over_all_pairs_that_differ_in_the_axis_alone(swept):
    effects = read_effects(swept)
    ((full,), (reverse,)) = of(effects, "localizer"), of(effects, "divergence")
    assert (full.value, full.reference, full.pairs, full.planned) == ("full", "error_quote", 2, 2)
    assert full.differences[IN_DOMAIN].value.mean == pytest.approx(0.15)
    assert full.differences[IN_DOMAIN].value.seeds == 3 and full.differences[IN_DOMAIN].verdict == "better"
    assert full.differences[OUT_OF_DOMAIN].verdict == "no difference shown"
    assert reverse.differences[IN_DOMAIN].value.mean == pytest.approx(-0.15)
    assert reverse.differences[OUT_OF_DOMAIN].value.mean == pytest.approx(-0.2)
    assert reverse.differences[OUT_OF_DOMAIN].verdict == "worse"


def test_a_split_shows_an_effect_that_depends_on_another_part(swept):
    effects = read_effects(swept, within=["divergence"])
    assert [(one.axis, one.within, one.pairs) for one in effects.effects] == [
        ("localizer", ("jsd",), 1),
        ("localizer", ("reverse_kl",), 1),
    ]
    gain, none = (one.differences[IN_DOMAIN] for one in effects.effects)
    assert gain.value.mean == pytest.approx(0.3) and gain.verdict == "better"
    assert none.value.mean == pytest.approx(0.0) and none.verdict == "no difference shown"


def test_with_one_axis_effects_are_the_differences_from_the_recipe(plan, tmp_path):
    finish(tmp_path, plan("rosd", "localizer=error_quote,full,oracle", "seed=0..2", "steps=2"), scores, problems=60)
    expected = [one.differences for one in read_results(tmp_path).combinations[1:]]
    assert [one.differences for one in read_effects(tmp_path).effects] == expected


def test_unfinished_pairs_are_counted_and_only_seeds_of_all_pairs_are_compared(plan, tmp_path):
    finish(tmp_path, plan(*WORDS), scores, problems=60, leave=1)
    effects = read_effects(tmp_path)
    assert {one.differences[IN_DOMAIN].value.seeds for one in effects.effects} == {2}
    assert "not all trials are finished: 11 finished, 1 waiting" in effects.notes
    other = tmp_path / "other"
    finish(other, plan(*WORDS), scores, problems=60, leave=10)  # seed 0 of the first two combinations
    full, reverse = (of(read_effects(other), axis)[0] for axis in ("localizer", "divergence"))
    assert (full.pairs, full.planned, full.differences) == (0, 2, {})
    assert (reverse.pairs, reverse.planned) == (1, 2) and reverse.differences[OUT_OF_DOMAIN].value.mean == pytest.approx(-0.2)
    text = FORMATS["markdown"](effects_report(read_effects(other), suites=False))
    assert "| localizer | full | error_quote | 0/2 |" in text and "nothing finished" in text


def test_an_unknown_axis_and_a_sweep_without_pairs_are_refused(swept, plan, tmp_path):
    with pytest.raises(
        RunError, match=r"--within: 'divergense' is no axis of rosd\. Its axes: localizer, divergence\. Did you"
    ):
        read_effects(swept, within=["divergense"])
    with pytest.raises(RunError, match="no two combinations that share localizer, divergence differ in one axis alone"):
        read_effects(swept, within=["localizer", "divergence"])


def test_csv_has_an_effect_for_each_measure(swept):
    lines = list(csv.DictReader(io.StringIO(FORMATS["csv"](effects_report(read_effects(swept), suites=False)))))
    assert len(lines) == 2 * 5
    (line,) = (line for line in lines if line["axis"] == "localizer" and line["measure"] == "in domain")
    assert (line["value"], line["instead_of"], line["pairs"], line["seeds"]) == ("full", "error_quote", "2", "3")
    assert float(line["difference"]) == pytest.approx(0.15) and line["verdict"] == "better"


def test_the_command_prints_effects_and_their_split(swept, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "140")
    with pytest.raises(SystemExit) as end:
        main(["sweep", "report", str(swept), "--within", "divergence", "--suites"])
    shown = capsys.readouterr().out
    assert not end.value.code and "rosd, what each axis changes, in domain (sums)" in shown
    assert "rosd, what each axis changes, clock" in shown
    assert "the mean over all pairs of combinations that differ in this axis alone" in " ".join(shown.split())
