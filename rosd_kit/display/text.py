"""Formats numbers and tables for people; all displays share it. Makes text from data safe to print."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import isnan

from rich.cells import cell_len
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from rosd_kit.evaluation.intervals import Interval
from rosd_kit.evaluation.results import Comparison, SuiteResult, comparison_rows, suite_averages

#: Marks an interval that is a worst-case bound (see `Interval`).
WORST_CASE = "†"
BARS = "▁▂▃▄▅▆▇█"
#: As many suites are shown with one value per line where a table is too wide; more would scroll away.
_STACKED_SUITES = 3


def sanitize(text: str) -> str:
    """Replace control characters, so that text from data cannot control the terminal."""
    return "".join(c if c.isprintable() or c == "\n" else "�" for c in text)


def percent(value: float) -> str:
    """Return a share in [0, 1] as a percentage with one decimal; `-` for NaN."""
    return "-" if isnan(value) else f"{100 * value:.1f}"


def duration(seconds: float) -> str:
    """Return a duration as m:ss or h:mm:ss."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def sparkline(values: Sequence[float], width: int) -> str:
    """Return the last `width` values, each in [0, 1], as bars."""
    return "".join(BARS[min(7, max(0, int(8 * v)))] for v in values[-width:])


def localisation(metrics: Mapping[str, float]) -> str:
    """Return how often the token weights start at the true first error, in one line; empty without an oracle."""
    outcomes = ("exact_start", "within_step", "missed")
    counts = [metrics.get(f"oracle/{outcome}", 0.0) for outcome in outcomes]
    total = sum(counts)
    if not total:
        return ""
    shares = (f"{name.replace('_', ' ')} {100 * count / total:.0f}%" for name, count in zip(outcomes, counts, strict=True))
    return f"{', '.join(shares)} of {total:.0f}"


def truncation(metrics: Mapping[str, float]) -> str:
    """Return how many rollouts were cut off at the length limit, of how many, and their share; empty if none was."""
    truncated, count = metrics.get("rollout/truncated", 0.0), metrics.get("rollout/count", 0.0)
    return f"{truncated:.0f} of {count:.0f} ({100 * truncated / count:.0f}%)" if truncated and count else ""


def left_out(metrics: Mapping[str, float]) -> str:
    """Return which groups and rollouts of a step were left out and why, in one line; empty without any."""
    groups, rollouts = list[tuple[str, float]](), list[tuple[str, float]]()
    for name, count in metrics.items():
        kind, _, reason = name.partition("/")
        if count and kind == "gate" and reason != "mixed":
            groups.append((reason, count))
        elif count and kind in ("skip", "sample") and reason != "ok":
            rollouts.append((reason, count))
    return ", ".join(
        f"{counted(round(count), noun)} {reason.replace('_', ' ')}"
        for noun, reasons in (("group", groups), ("rollout", rollouts))
        for reason, count in reasons
    )


def oracle_lines(totals: Mapping[str, float]) -> list[str]:
    """Return how localizer and reflector compare with the oracle; nothing without an oracle."""
    lines = []
    if located := localisation(totals):
        lines += ["", f"localizer against the oracle: {located} wrong rollouts"]
    for kind, success in (("quote", "quoted the true first error"), ("idea", "gave the correct replacement for it")):
        asked, right = (totals.get(f"oracle/{kind}_{count}", 0.0) for count in ("asked", "right"))
        if asked:
            lines.append(f"reflector against the oracle: {success} in {100 * right / asked:.0f}% of {asked:.0f}")
    return lines


def evaluation_cells(results: Sequence[SuiteResult]) -> list[tuple[str, ...]]:
    """Return the titles and the rows of a table with each suite's mean@k and its 95 % interval."""
    rows = [(_suite_label(r.suite, r.in_domain), percent(r.mean), _ends(r.interval)) for r in results]
    return [("suite", "mean %", "95 % interval"), *rows]


def evaluation_table(results: Sequence[SuiteResult], width: int) -> RenderableType:
    """Return a table with each suite's mean@k and its 95 % interval."""
    titles, *rows = evaluation_cells(results)
    return _fit_table(titles, rows, width)


def full_evaluation_table(results: Sequence[SuiteResult], width: int) -> RenderableType:
    """Return a table with every measure of each suite, and the averages over suites."""
    k = results[0].samples
    titles = ("suite", f"mean@{k} %", "95 % interval", f"pass@{k}", f"maj@{k}", "format", "tokens")
    pass_at_k, majority = [r.pass_at.get(str(k)) for r in results], [r.majority for r in results]
    rows = [
        (
            _suite_label(r.suite, r.in_domain),
            percent(r.mean),
            _ends(r.interval),
            *_means(passed, voted),
            percent(r.format_rate),
            f"{r.mean_tokens:.1f}",
        )
        for r, passed, voted in zip(results, pass_at_k, majority, strict=True)
    ]
    pass_averages, majority_averages = (
        suite_averages([(r.in_domain, interval) for r, interval in zip(results, column, strict=True) if interval is not None])
        for column in (pass_at_k, majority)
    )
    for name, mean in suite_averages([(r.in_domain, r.interval) for r in results]).items():
        others = _means(pass_averages.get(name), majority_averages.get(name))
        rows.append((name, percent(mean.mean), _ends(mean), *others, "", ""))
    return _fit_table(titles, rows, width)


def evaluation_note(results: Sequence[SuiteResult]) -> str:
    """Return a note that explains the numbers of an evaluation table."""
    first, errors = results[0], sum(result.errors for result in results)
    note = f"mean@{first.samples} over {first.problems} problems per suite, with 95 % intervals"
    if any(result.interval.worst_case for result in results):
        note += f"; {WORST_CASE} all scores are equal: the interval is a worst-case bound"
    if cut_off := sum(result.truncated or 0 for result in results):
        note += f"; {cut_off} of {sum(result.problems * result.samples for result in results)} responses were cut off"
    if errors:
        note += f"; the verifier failed on {errors} samples, which count as neither right nor wrong"
    return note


def comparison_note(comparisons: Sequence[Comparison]) -> str:
    """Return a note that explains the numbers of a comparison table."""
    note = evaluation_note([side for c in comparisons for side in (c.after, c.before)])
    if WORST_CASE not in note and any(c.difference.worst_case for c in comparisons):
        note += f"; {WORST_CASE} all differences are equal: the interval is a worst-case bound"
    note += "; * the interval excludes zero"
    for one in comparisons:
        before, after = one.before.traits, one.after.traits
        if one.in_domain and (both := [name for name in after if name in before]):
            shares = ", ".join(f"{name} {before[name]:.2f} → {after[name]:.2f}" for name in both)
            note += f"; how responses of {one.suite} are written: {shares}"
    return note


def unchanged_note(comparisons: Sequence[Comparison], totals: Mapping[str, float]) -> str:
    """Return why a run's comparison shows nothing, if no interval excludes zero; else an empty text.

    `totals` are the run's `rollout/count`, `rollout/truncated` and `train/samples`.
    """
    if not comparisons or any(c.difference.excludes(0.0) for c in comparisons):
        return ""
    measured = next((c for c in comparisons if c.in_domain), comparisons[0])
    points = 50 * (measured.difference.high - measured.difference.low)
    size = f"{counted(measured.after.problems, 'problem')} x {counted(measured.after.samples, 'sample')}"
    note = (
        "nothing moved measurably: every difference's interval includes zero. "
        f"With {size}, less than about {points:.0f} points cannot be distinguished from chance"
    )
    if count := totals.get("rollout/count", 0.0):
        trained = totals.get("train/samples", 0.0)
        if not trained:
            return f"nothing moved: the run trained on none of its {count:.0f} rollouts, so the model is the one it began with."
        note += f"; the run trained on {trained:.0f} of its {count:.0f} rollouts"
    return f"{note}. More evaluation.problems show smaller differences; more steps may make larger ones."


def counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'s' * (count != 1)}"


def comparison_cells(
    comparisons: Sequence[Comparison], *, against: str = "before", subject: str = "after", intervals: bool = True
) -> list[tuple[str, ...]]:
    """Return the titles and the rows of a table with both sides of each suite, and the averages.

    `*` marks a difference whose interval excludes zero. Without `intervals` only differences have theirs.
    """
    rows = comparison_rows(comparisons)
    starred = any(row.change.excludes(0.0) for row in rows)

    def side(value: Interval) -> str:
        return f"{percent(value.mean)} ({_ends(value)})" if intervals else percent(value.mean)

    cells = [
        (_suite_label(row.name, row.in_domain), side(row.before), side(row.after), _change(row.change, starred)) for row in rows
    ]
    return [("suite", f"{against} %", f"{subject} %", "difference"), *cells]


def comparison_table(
    comparisons: Sequence[Comparison], width: int, *, against: str = "before", subject: str = "after"
) -> RenderableType:
    """Return the table of `comparison_cells`.

    Where it would be wider than `width`, a long one has both sides without their intervals, so that it does not scroll away.
    """
    full, means = (
        comparison_cells(comparisons, against=against, subject=subject, intervals=intervals) for intervals in (True, False)
    )
    candidates = (full, means) if len(full) - 1 > _STACKED_SUITES else (full,)
    titles, *rows = next((cells for cells in candidates if _table_width(cells) <= width), full)
    return _fit_table(titles, rows, width)


def _table_width(cells: Sequence[Sequence[str]]) -> int:
    sizes = [max(map(cell_len, column)) for column in zip(*cells, strict=True)]
    return sum(sizes) + 2 * (len(sizes) - 1)


def _fit_table(titles: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> RenderableType:
    """Return a table, or one value per line where the table would be wider than `width`."""
    if _table_width([titles, *rows]) > width:
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


def _means(*intervals: Interval | None) -> Iterator[str]:
    return ("-" if interval is None else percent(interval.mean) for interval in intervals)


def _ends(interval: Interval) -> str:
    return f"{percent(interval.low)} .. {percent(interval.high)}" + (WORST_CASE if interval.worst_case else "")


def _change(change: Interval, starred: bool) -> str:
    """Return a difference with its interval; if other rows have a star, pad to align with them."""
    ends = f"{100 * change.low:+.1f} .. {100 * change.high:+.1f}" + (WORST_CASE if change.worst_case else "")
    return f"{100 * change.mean:+.1f} ({ends})" + (" *" if change.excludes(0.0) else "  " * starred)


def _suite_label(name: str, trained: bool) -> str:
    return sanitize(name) + (" (trained)" if trained else "")
