"""The table of a sweep's results, for people, spreadsheets and papers. Knows numbers and layout only."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Sequence

from rich.console import Console
from rich.table import Table

from rosd_kit.display.plain import say
from rosd_kit.evaluation.intervals import Interval
from rosd_kit.sweep.report import ALPHA, CellResult, Results

_TITLES = ("seeds", "% (95 %)", "difference (95 %)", "p (Holm)", "verdict")
_WIDE = 110
_ESCAPES = {"\\": r"\textbackslash{}", "_": r"\_", "%": r"\%", "&": r"\&", "#": r"\#", "$": r"\$", "{": r"\{", "}": r"\}"}


def print_table(results: Results, console: Console, *, suites: bool) -> None:
    """Print one table a measure and what a reader has to know; where there is little room, intervals below their means."""

    def fitted(cell: str) -> str:
        return cell if console.width >= _WIDE else cell.replace(" (", "\n(")

    for measure in results.shown(suites):
        say(console, f"\n{_heading(results, measure)}")
        table = Table(*results.axes, box=None)
        for title in _TITLES:
            table.add_column(fitted(title), no_wrap=title != "verdict")
        for row in _rows(results, measure):
            table.add_row(*map(fitted, row))
        console.print(table)
    say(console, "")
    for note in (_legend(results), *results.notes):
        say(console, note)


def markdown(results: Results, suites: bool) -> str:
    """Return one Markdown table a measure."""
    parts = []
    for measure in results.shown(suites):
        titles = [*results.axes, *_TITLES]
        lines = [titles, ["---"] * len(titles), *_rows(results, measure)]
        parts += [f"**{_heading(results, measure)}**", "", *(f"| {' | '.join(_cell(c) for c in line)} |" for line in lines), ""]
    return "\n".join([*parts, " ".join([_legend(results), *(f"{note}." for note in results.notes)])])


def latex(results: Results, suites: bool) -> str:
    """Return one tabular a measure, for the package booktabs."""
    parts = []
    for measure in results.shown(suites):
        titles = [*results.axes, *_TITLES]
        parts += [
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
    return "\n".join([*parts, *(f"% {note}" for note in (_legend(results), *results.notes))])


def as_csv(results: Results, suites: bool) -> str:
    """Return one line a combination and measure, every suite among them, numbers as shares in full precision."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    numbers = ("mean", "low", "high", "difference", "difference_low", "difference_high", "p", "p_holm", "verdict")
    writer.writerow([*results.axes, "measure", "seeds", *numbers])
    for cell in results.cells:
        for measure, mean in cell.means.items():
            found = cell.differences.get(measure)
            own = [mean.mean, mean.interval.low, mean.interval.high]
            if found is not None:
                interval = found.estimate.interval
                own += [interval.mean, interval.low, interval.high, found.estimate.p, found.adjusted]
            verdict = [found.verdict] if found is not None else [*[""] * 5, "the recipe" if cell is results.cells[0] else ""]
            writer.writerow([*cell.labels, measure, mean.seeds, *own, *verdict])
    return text.getvalue().rstrip("\n")


FORMATS: dict[str, Callable[[Results, bool], str]] = {"markdown": markdown, "latex": latex, "csv": as_csv}


def _rows(results: Results, measure: str) -> Iterator[list[str]]:
    before = results.before[measure]
    empty = [""] * max(0, len(results.axes) - 1)
    start = ["before training", *empty][: len(results.axes)]
    yield [*start, "", _measured(before.interval), "", "", ""]
    for cell in results.cells:
        yield [*cell.labels, _seeds(cell), *_numbers(cell, measure, first=cell is results.cells[0])]


def _numbers(cell: CellResult, measure: str, *, first: bool) -> list[str]:
    if measure not in cell.means:
        return ["", "", "", "nothing finished"]
    own = _measured(cell.means[measure].interval)
    if first:
        return [own, "", "", "the recipe"]
    if measure not in cell.differences:
        return [own, "", "", "no seed in common with the recipe"]
    found = cell.differences[measure]
    return [own, _measured(found.estimate.interval, sign="+"), _p(found.adjusted), found.verdict]


def _seeds(cell: CellResult) -> str:
    done = len(cell.trials)
    return str(done) if done == cell.planned else f"{done}/{cell.planned}"


def _measured(interval: Interval, *, sign: str = "") -> str:
    mean, low, high = (f"{100 * value:{sign}.1f}" for value in (interval.mean, interval.low, interval.high))
    return f"{mean} ({low}..{high})"


def _p(value: float) -> str:
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def _heading(results: Results, measure: str) -> str:
    suites = results.measures[measure]
    return f"{results.name}, {measure}" + (f" ({', '.join(suites)})" if suites != (measure,) else "")


def _legend(results: Results) -> str:
    first = results.cells[0].label
    return (
        f"Differences are against the recipe ({first}), on the same problems and seeds; intervals count seeds and problems as "
        f"chance; p-values are Holm's over all differences of the averages (and apart, of the single suites), at {ALPHA}. "
        '"No difference shown" does not say that there is none.'
    )


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _latex_row(cells: Sequence[str]) -> str:
    return " & ".join("".join(_ESCAPES.get(c, c) for c in cell).replace("..", " to ") for cell in cells) + r" \\"
