"""Numbers as people read them; shared by all displays. Text from data is made harmless here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import isnan

from rich.cells import cell_len
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from rosd_kit.evaluation.intervals import Interval
from rosd_kit.evaluation.results import Comparison, SuiteResult, averages, differences

#: Marks an interval that is a bound on what equal scores may have missed.
WORST = "†"
BARS = "▁▂▃▄▅▆▇█"


def harmless(text: str) -> str:
    """Return the text without control characters, so that data cannot drive the terminal."""
    return "".join(c if c.isprintable() or c == "\n" else "�" for c in text)


def percent(value: float) -> str:
    """Return a share in [0, 1] as a percentage with one decimal; `-` where it is not known."""
    return "-" if isnan(value) else f"{100 * value:.1f}"


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
    """Return one evaluation: each suite's mean@k with its 95 % interval."""
    rows = [(_suite(r.suite, r.in_domain), percent(r.mean), _ends(r.interval)) for r in results]
    return _fitted(("suite", "mean %", "95 % interval"), rows, width)


def measures_table(results: Sequence[SuiteResult], width: int) -> RenderableType:
    """Return all that was measured: a row a suite, and the means over suites."""
    k = results[0].samples
    titles = ("suite", f"mean@{k} %", "95 % interval", f"pass@{k}", f"maj@{k}", "format", "tokens")
    rows = [
        (_suite(r.suite, r.in_domain), percent(r.mean), _ends(r.interval), *_others(r.pass_at.get(str(k)), r.majority),
         percent(r.format_rate), f"{r.mean_tokens:.1f}")
        for r in results
    ]  # fmt: skip
    passes, votes = (averages([(r.in_domain, one) for r, one in zip(results, side, strict=True) if one is not None])
                     for side in ([r.pass_at.get(str(k)) for r in results], [r.majority for r in results]))  # fmt: skip
    for name, mean in averages([(r.in_domain, r.interval) for r in results]).items():
        rows.append((name, percent(mean.mean), _ends(mean), *_others(passes.get(name), votes.get(name)), "", ""))
    return _fitted(titles, rows, width)


def measure_note(results: Sequence[SuiteResult]) -> str:
    """Return what the numbers of a table are, and what is to be known of them."""
    first, errors = results[0], sum(result.errors for result in results)
    note = f"mean@{first.samples} over {first.problems} problems a suite, with 95 % intervals"
    if any(result.interval.worst_case for result in results):
        note += f"; {WORST} all scores are equal: the interval is a worst-case bound"
    if errors:
        note += f"; the verifier failed on {errors} samples, which count as neither right nor wrong"
    return note


def comparison_note(comparisons: Sequence[Comparison]) -> str:
    """Return what the numbers of a comparison are."""
    note = measure_note([side for c in comparisons for side in (c.after, c.before)])
    bounded = WORST not in note and any(c.difference.worst_case for c in comparisons)
    return f"{note}; {WORST} all differences are equal: the interval is a worst-case bound" if bounded else note


def comparison_table(
    comparisons: Sequence[Comparison], width: int, *, against: str = "before", subject: str = "after"
) -> RenderableType:
    """Return each suite on both sides and the means over suites; `*` marks a difference whose interval leaves out zero."""
    found = differences(comparisons)
    starred = any(one.change.excludes(0.0) for one in found)
    rows = [
        (_suite(one.name, one.in_domain), _measured(one.before), _measured(one.after), _change(one.change, starred))
        for one in found
    ]
    return _fitted(("suite", f"{against} %", f"{subject} %", "difference"), rows, width)


def _fitted(titles: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> RenderableType:
    """Return a table, or one value a line where the table would be wider than `width`."""
    sizes = [max(map(cell_len, column)) for column in zip(titles, *rows, strict=True)]
    if sum(sizes) + 2 * (len(sizes) - 1) > width:
        lines = []
        for name, *values in rows:
            lines += [name, *(f"  {title} {value}" for title, value in zip(titles[1:], values, strict=True) if value)]
        return Text("\n".join(line.rstrip() for line in lines), overflow="fold")
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
    for index, title in enumerate(titles):
        table.add_column(title, justify="right" if index else "left", no_wrap=True)
    for row in rows:
        table.add_row(*map(Text, row))
    return table


def _others(*intervals: Interval | None) -> Iterator[str]:
    return ("-" if one is None else percent(one.mean) for one in intervals)


def _ends(interval: Interval) -> str:
    return f"{percent(interval.low)} .. {percent(interval.high)}" + (WORST if interval.worst_case else "")


def _measured(interval: Interval) -> str:
    return f"{percent(interval.mean)} ({_ends(interval)})"


def _change(change: Interval, starred: bool) -> str:
    """Return a difference with its interval; where others have a star, with a star's room."""
    ends = f"{100 * change.low:+.1f} .. {100 * change.high:+.1f}" + (WORST if change.worst_case else "")
    return f"{100 * change.mean:+.1f} ({ends})" + (" *" if change.excludes(0.0) else "  " * starred)


def _suite(name: str, trained: bool) -> str:
    return harmless(name) + (" (trained)" if trained else "")
