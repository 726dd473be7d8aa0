"""Puts a sweep's results, or the effects of its axes, into tables of text. `formats` lays them out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from rosd_kit.evaluation.intervals import Interval
from rosd_kit.sweep.effects import Effect, Effects
from rosd_kit.sweep.report import ALPHA, CombinationResult, Difference, Results
from rosd_kit.sweep.scores import shown_measures

Cell = str | int | float
_NUMBERS = ("difference", "difference_low", "difference_high", "p", "p_holm", "verdict")
_VERDICTS = (
    "p-values are Holm-corrected over all differences of the averages (separately over those of single suites) and tested at "
    f'{ALPHA}. "No difference shown" does not mean that there is none.'
)


@dataclass(frozen=True, kw_only=True)
class ReportTable:
    """A table of one measure. The first `labels` columns say what a row is about, the last is the verdict."""

    heading: str
    labels: int
    titles: tuple[str, ...]
    rows: tuple[Sequence[str], ...]


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a report shows: tables, how to read them, caveats; and the same as `records` of full precision, titles first."""

    tables: tuple[ReportTable, ...]
    legend: str
    notes: tuple[str, ...]
    records: tuple[Sequence[Cell], ...]


def results_report(results: Results, *, suites: bool) -> Report:
    """Return the means of all combinations and their differences from the recipe; `suites` adds each suite to the tables."""
    titles = (*results.axes, "seeds", "% (95 %)", "difference (95 %)", "p (Holm)", "verdict")
    tables = [
        ReportTable(
            heading=_heading(results.name, measure, results.measures),
            labels=len(results.axes),
            titles=titles,
            rows=tuple(_result_rows(results, measure)),
        )
        for measure in shown_measures(results.measures, suites=suites)
    ]
    legend = (
        f"Differences are from the recipe ({results.combinations[0].label}), on the same problems and seeds. Intervals treat "
        f"seeds and problems as random samples. {_VERDICTS}"
    )
    records = (_result_titles(results.axes), *_result_records(results))
    return Report(tables=tuple(tables), legend=legend, notes=results.notes, records=records)


def effects_report(effects: Effects, *, suites: bool) -> Report:
    """Return what each axis changes; `suites` adds each suite to the tables."""
    titles = (*effects.within, "axis", "value", "instead of", "pairs", "seeds", "difference (95 %)", "p (Holm)", "verdict")
    tables = [
        ReportTable(
            heading=_heading(f"{effects.name}, what each axis changes", measure, effects.measures),
            labels=len(effects.within) + 3,
            titles=titles,
            rows=tuple(_effect_row(effect, measure) for effect in effects.effects),
        )
        for measure in shown_measures(effects.measures, suites=suites)
    ]
    legend = (
        "A difference is the mean over all pairs of combinations that differ in this axis alone, on the same problems and "
        f"seeds. Intervals treat seeds and problems as random samples, and the pairs as given. {_VERDICTS}"
    )
    records: list[Sequence[Cell]] = [(*effects.within, "axis", "value", "instead_of", "measure", "pairs", "seeds", *_NUMBERS)]
    for effect in effects.effects:
        for measure, one in effect.differences.items():
            labels = (*effect.within, effect.axis, effect.value, effect.reference)
            records.append((*labels, measure, effect.pairs, one.value.seeds, *_difference_numbers(one)))
    return Report(tables=tuple(tables), legend=legend, notes=effects.notes, records=tuple(records))


def percent(interval: Interval, *, sign: str = "") -> str:
    """Return a mean and its interval in percent; `sign` is "+" for differences."""
    mean, low, high = (f"{100 * value:{sign}.1f}" for value in (interval.mean, interval.low, interval.high))
    return f"{mean} ({low}..{high})"


def _result_rows(results: Results, measure: str) -> Iterator[list[str]]:
    first = ["before training", *[""] * max(0, len(results.axes) - 1)][: len(results.axes)]
    yield [*first, "", percent(results.before[measure].interval), "", "", ""]
    for combination in results.combinations:
        is_recipe = combination is results.combinations[0]
        yield [*combination.labels, _seeds(combination), *_result_cells(combination, measure, is_recipe=is_recipe)]


def _result_cells(combination: CombinationResult, measure: str, *, is_recipe: bool) -> list[str]:
    if measure not in combination.means:
        return ["", "", "", "nothing finished"]
    mean = percent(combination.means[measure].interval)
    if is_recipe:
        return [mean, "", "", "the recipe"]
    if measure not in combination.differences:
        return [mean, "", "", "no seed in common with the recipe"]
    return [mean, *_difference_cells(combination.differences[measure])]


def _result_titles(axes: Iterable[str]) -> tuple[str, ...]:
    return (*axes, "measure", "seeds", "mean", "low", "high", *_NUMBERS)


def _result_records(results: Results) -> Iterator[Sequence[Cell]]:
    """Yield a record for each combination and measure, always with every suite."""
    for combination in results.combinations:
        for measure, mean in combination.means.items():
            row: list[Cell] = [*combination.labels, measure, mean.seeds, mean.mean, mean.interval.low, mean.interval.high]
            if (difference := combination.differences.get(measure)) is not None:
                yield [*row, *_difference_numbers(difference)]
            else:
                yield [*row, *[""] * 5, "the recipe" if combination is results.combinations[0] else ""]


def _effect_row(effect: Effect, measure: str) -> list[str]:
    pairs = _of(effect.pairs, effect.planned)
    labels = [*effect.within, effect.axis, effect.value, effect.reference, pairs]
    if (difference := effect.differences.get(measure)) is None:
        return [*labels, "", "", "", "no seed is finished in all pairs" if effect.pairs else "nothing finished"]
    return [*labels, str(difference.value.seeds), *_difference_cells(difference)]


def _difference_cells(difference: Difference) -> list[str]:
    p = "<0.001" if difference.adjusted_p < 0.001 else f"{difference.adjusted_p:.3f}"
    return [percent(difference.value.interval, sign="+"), p, difference.verdict]


def _difference_numbers(difference: Difference) -> tuple[Cell, ...]:
    interval = difference.value.interval
    return interval.mean, interval.low, interval.high, difference.value.p_value, difference.adjusted_p, difference.verdict


def _seeds(combination: CombinationResult) -> str:
    return _of(len(combination.trials), combination.planned)


def _of(count: int, planned: int) -> str:
    return str(count) if count == planned else f"{count}/{planned}"


def _heading(name: str, measure: str, measures: Mapping[str, tuple[str, ...]]) -> str:
    suites = measures[measure]
    return f"{name}, {measure}" + (f" ({', '.join(suites)})" if suites != (measure,) else "")
