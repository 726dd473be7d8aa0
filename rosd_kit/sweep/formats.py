"""Lays out a sweep's report for terminals, spreadsheets and papers. Knows tables of text only."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence

from rich.console import Console
from rich.table import Table

from rosd_kit.display.plain import print_line
from rosd_kit.sweep.tables import Report

_WIDE = 110
_LATEX = {"\\": r"\textbackslash{}", "_": r"\_", "%": r"\%", "&": r"\&", "#": r"\#", "$": r"\$", "{": r"\{", "}": r"\}"}


def print_tables(report: Report, console: Console) -> None:
    """Print the tables and the notes. On a narrow console, intervals go below their means."""

    def fit(cell: str) -> str:
        return cell if console.width >= _WIDE else cell.replace(" (", "\n(")

    for one in report.tables:
        print_line(console, f"\n{one.heading}")
        table = Table(box=None)
        for index, title in enumerate(one.titles):
            numbers = one.labels <= index < len(one.titles) - 1
            table.add_column(fit(title), no_wrap=numbers, overflow="ellipsis" if numbers else "fold")
        for row in one.rows:
            table.add_row(*map(fit, row))
        console.print(table)
    print_line(console, "")
    for note in (report.legend, *report.notes):
        print_line(console, note)


def markdown(report: Report) -> str:
    """Return one Markdown table per measure."""
    blocks = []
    for table in report.tables:
        rows = [table.titles, ["---"] * len(table.titles), *table.rows]
        blocks += [f"**{table.heading}**", "", *map(_markdown_row, rows), ""]
    return "\n".join([*blocks, " ".join([report.legend, *(f"{note}." for note in report.notes)])])


def latex(report: Report) -> str:
    """Return one tabular per measure, for the package booktabs."""
    blocks = []
    for table in report.tables:
        blocks += [
            f"% {table.heading}",
            rf"\begin{{tabular}}{{{'l' * table.labels}{'r' * (len(table.titles) - table.labels - 1)}l}}",
            r"\toprule",
            _latex_row(table.titles),
            r"\midrule",
            *map(_latex_row, table.rows),
            r"\bottomrule",
            r"\end{tabular}",
            "",
        ]
    return "\n".join([*blocks, *(f"% {note}" for note in (report.legend, *report.notes))])


def as_csv(report: Report) -> str:
    """Return one line per record, always with every suite; shares in full precision."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(report.records)
    return text.getvalue().rstrip("\n")


FORMATS: dict[str, Callable[[Report], str]] = {"markdown": markdown, "latex": latex, "csv": as_csv}


def _markdown_row(cells: Sequence[str]) -> str:
    escaped = [cell.replace("|", "\\|") for cell in cells]
    return f"| {' | '.join(escaped)} |"


def _latex_row(cells: Sequence[str]) -> str:
    return " & ".join("".join(_LATEX.get(c, c) for c in cell).replace("..", " to ") for cell in cells) + r" \\"
