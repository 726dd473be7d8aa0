"""Numbers as people read them; shared by all displays. Text from data is made harmless here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.cells import cell_len
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from rosd_kit.display.base import RunSummary
from rosd_kit.evaluation.results import SuiteResult

BARS = "▁▂▃▄▅▆▇█"


def harmless(text: str) -> str:
    """Return the text without control characters, so that data cannot drive the terminal."""
    return "".join(c if c.isprintable() or c == "\n" else "�" for c in text)


def percent(value: float) -> str:
    """Return a share in [0, 1] as a percentage with one decimal."""
    return f"{100 * value:.1f}"


def duration(seconds: float) -> str:
    """Return a time as m:ss, or h:mm:ss."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def sparkline(values: Sequence[float], width: int) -> str:
    """Return the last values in [0, 1] as one bar each."""
    return "".join(BARS[min(7, max(0, int(8 * v)))] for v in values[-width:])


def localisation(metrics: Mapping[str, float]) -> str:
    """Return how often the weights began at the true first error, as one line; empty without an oracle."""
    kinds = ("exact_start", "within_step", "missed")
    counts = [metrics.get(f"oracle/{kind}", 0.0) for kind in kinds]
    total = sum(counts)
    if not total:
        return ""
    told = ", ".join(f"{kind.replace('_', ' ')} {100 * count / total:.0f}%" for kind, count in zip(kinds, counts, strict=True))
    return f"{told} of {total:.0f}"


def oracle_lines(totals: Mapping[str, float]) -> list[str]:
    """Return how localizer and reflector fared against the truth; nothing without an oracle."""
    lines = []
    if located := localisation(totals):
        lines += ["", f"localizer against the oracle: {located} wrong rollouts"]
    for kind, told in (("quote", "quoted the true first error"), ("idea", "gave the right replacement for it")):
        asked, right = (totals.get(f"oracle/{kind}_{count}", 0.0) for count in ("asked", "right"))
        if asked:
            lines.append(f"reflector against the oracle: {told} in {100 * right / asked:.0f}% of {asked:.0f}")
    return lines


def evaluation_table(results: Sequence[SuiteResult], width: int) -> RenderableType:
    """Return one evaluation: each suite's mean with its 95 % interval."""
    rows = [(_suite(r), percent(r.mean), f"{percent(r.low)} .. {percent(r.high)}") for r in results]
    return _fitted(("suite", "mean %", "95 % interval"), rows, width)


def measure_note(result: SuiteResult) -> str:
    """Return what the numbers of a table are; `result` stands for all suites, which share their settings."""
    return f"mean@{result.samples} over {result.problems} problems a suite, with 95 % intervals"


def summary_table(summary: RunSummary, width: int) -> RenderableType:
    """Return each suite before and after, with intervals; `*` marks a difference whose interval leaves out zero."""
    rows = [
        (
            _suite(c.after),
            _measured(c.before),
            _measured(c.after),
            f"{100 * c.difference.mean:+.1f} ({100 * c.difference.low:+.1f} .. {100 * c.difference.high:+.1f})"
            + (" *" if c.excludes_zero else "  "),
        )
        for c in summary.comparisons
    ]
    return _fitted(("suite", "before %", "after %", "difference"), rows, width)


def _fitted(titles: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> RenderableType:
    """Return a table, or one value a line where the table would be wider than `width`."""
    sizes = [max(map(cell_len, column)) for column in zip(titles, *rows, strict=True)]
    if sum(sizes) + 2 * (len(sizes) - 1) > width:
        lines = []
        for name, *values in rows:
            lines += [name, *(f"  {title} {value}" for title, value in zip(titles[1:], values, strict=True))]
        return Text("\n".join(line.rstrip() for line in lines), overflow="fold")
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
    for index, title in enumerate(titles):
        table.add_column(title, justify="right" if index else "left", no_wrap=True)
    for row in rows:
        table.add_row(*map(Text, row))
    return table


def _measured(result: SuiteResult) -> str:
    return f"{percent(result.mean)} ({percent(result.low)} .. {percent(result.high)})"


def _suite(result: SuiteResult) -> str:
    return harmless(result.suite) + (" (trained)" if result.in_domain else "")
