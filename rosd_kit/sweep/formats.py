"""Formats a sweep's results as a table for terminals, spreadsheets and papers. Knows numbers and layout only."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Sequence

from rich.console import Console
from rich.table import Table

from rosd_kit.display.plain import print_line
from rosd_kit.evaluation.intervals import Interval
from rosd_kit.sweep.report import ALPHA, CombinationResult, Results

_TITLES = ("seeds", "% (95 %)", "difference (95 %)", "p (Holm)", "verdict")
_WIDE = 110
_LATEX = {"\\": r"\textbackslash{}", "_": r"\_", "%": r"\%", "&": r"\&", "#": r"\#", "$": r"\$", "{": r"\{", "}": r"\}"}


def print_tables(results: Results, console: Console, *, suites: bool) -> None:
    """Print one table per measure and the notes. On a narrow console, intervals go below their means."""

    def fit(cell: str) -> str:
        return cell if console.width >= _WIDE else cell.replace(" (", "\n(")

    for measure in results.shown_measures(suites=suites):
        print_line(console, f"\n{_heading(results, measure)}")
        table = Table(*results.axes, box=None)
        for title in _TITLES:
            table.add_column(fit(title), no_wrap=title != "verdict")
        for row in _rows(results, measure):
            table.add_row(*map(fit, row))
        console.print(table)
    print_line(console, "")
    for note in (_legend(results), *results.notes):
        print_line(console, note)


def markdown(results: Results, suites: bool) -> str:
    """Return one Markdown table per measure."""
    blocks = []
    for measure in results.shown_measures(suites=suites):
        titles = [*results.axes, *_TITLES]
        rows = [titles, ["---"] * len(titles), *_rows(results, measure)]
        blocks += [f"**{_heading(results, measure)}**", "", *map(_markdown_row, rows), ""]
    return "\n".join([*blocks, " ".join([_legend(results), *(f"{note}." for note in results.notes)])])


def latex(results: Results, suites: bool) -> str:
    """Return one tabular per measure, for the package booktabs."""
    blocks = []
    for measure in results.shown_measures(suites=suites):
        titles = [*results.axes, *_TITLES]
        blocks += [
            f"% {_heading(results, measure)}",
            rf"\begin{{tabular}}{{{'l' * len(results.axes)}{'r' * (len(_TITLES) - 1)}l}}",
            r"\toprule",
            _latex_row(titles),
            r"\midrule",
            *(_latex_row(row) for row in _rows(results, measure)),
            r"\bottomrule",
            r"\end{tabular}",
            "",
        ]
    return "\n".join([*blocks, *(f"% {note}" for note in (_legend(results), *results.notes))])


def as_csv(results: Results, suites: bool) -> str:
    """Return one line per combination and measure, always with every suite; shares in full precision."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    numbers = ("mean", "low", "high", "difference", "difference_low", "difference_high", "p", "p_holm", "verdict")
    writer.writerow([*results.axes, "measure", "seeds", *numbers])
    for combination in results.combinations:
        for measure, mean in combination.means.items():
            row = [*combination.labels, measure, mean.seeds, mean.mean, mean.interval.low, mean.interval.high]
            if (difference := combination.differences.get(measure)) is not None:
                interval = difference.value.interval
                row += [interval.mean, interval.low, interval.high, difference.value.p_value, difference.adjusted_p]
                row.append(difference.verdict)
            else:
                row += [*[""] * 5, "the recipe" if combination is results.combinations[0] else ""]
            writer.writerow(row)
    return text.getvalue().rstrip("\n")


FORMATS: dict[str, Callable[[Results, bool], str]] = {"markdown": markdown, "latex": latex, "csv": as_csv}


def _rows(results: Results, measure: str) -> Iterator[list[str]]:
    first = ["before training", *[""] * max(0, len(results.axes) - 1)][: len(results.axes)]
    yield [*first, "", _percent(results.before[measure].interval), "", "", ""]
    for combination in results.combinations:
        is_recipe = combination is results.combinations[0]
        yield [*combination.labels, _seeds(combination), *_numbers(combination, measure, is_recipe=is_recipe)]


def _numbers(combination: CombinationResult, measure: str, *, is_recipe: bool) -> list[str]:
    if measure not in combination.means:
        return ["", "", "", "nothing finished"]
    mean = _percent(combination.means[measure].interval)
    if is_recipe:
        return [mean, "", "", "the recipe"]
    if measure not in combination.differences:
        return [mean, "", "", "no seed in common with the recipe"]
    difference = combination.differences[measure]
    return [mean, _percent(difference.value.interval, sign="+"), _p_value(difference.adjusted_p), difference.verdict]


def _seeds(combination: CombinationResult) -> str:
    finished = len(combination.trials)
    return str(finished) if finished == combination.planned else f"{finished}/{combination.planned}"


def _percent(interval: Interval, *, sign: str = "") -> str:
    mean, low, high = (f"{100 * value:{sign}.1f}" for value in (interval.mean, interval.low, interval.high))
    return f"{mean} ({low}..{high})"


def _p_value(value: float) -> str:
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def _heading(results: Results, measure: str) -> str:
    suites = results.measures[measure]
    return f"{results.name}, {measure}" + (f" ({', '.join(suites)})" if suites != (measure,) else "")


def _legend(results: Results) -> str:
    return (
        f"Differences are from the recipe ({results.combinations[0].label}), on the same problems and seeds. Intervals treat "
        "seeds and problems as random samples. p-values are Holm-corrected over all differences of the averages (separately "
        f'over those of single suites) and tested at {ALPHA}. "No difference shown" does not mean that there is none.'
    )


def _markdown_row(cells: Sequence[str]) -> str:
    escaped = [cell.replace("|", "\\|") for cell in cells]
    return f"| {' | '.join(escaped)} |"


def _latex_row(cells: Sequence[str]) -> str:
    return " & ".join("".join(_LATEX.get(c, c) for c in cell).replace("..", " to ") for cell in cells) + r" \\"
