"""Formats the results of `micro_methods.py` as Markdown tables. Knows the lines of its store, not how they were measured."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from rosd_kit.display.text import sparkline
from rosd_kit.evaluation.intervals import Interval, bootstrap_mean

Row = dict[str, Any]
TRAINED = "sums"
RESAMPLES = 4000


def tables(rows: Sequence[Row]) -> str:
    """Return all tables: each method at its best learning rate, then every method at every learning rate."""
    suites = list(rows[0]["before"])
    groups = _groups(rows)
    best = {method: max(by_rate.values(), key=lambda runs: _level(runs, TRAINED).mean) for method, by_rate in groups.items()}
    seeds, steps = {row["seed"] for row in rows}, rows[0]["steps"]
    return "\n".join(
        [
            f"{len(rows)} runs: {len(groups)} methods, {len(seeds)} seeds, {steps} steps, base model `{rows[0]['base']}`.",
            "",
            "### Each method at its best learning rate for the trained domain",
            "",
            "Correct answers in percent after training, with 95 % intervals, and below them the change from the base model.",
            "",
            _table(
                ["method", "lr", f"{TRAINED} (trained)", *(s for s in suites if s != TRAINED), "exact start", "s/step"],
                [
                    ["base", "", *(_percent(_level(rows[:1], s, "before")) for s in _ordered(suites)), "", ""],
                    *(
                        [
                            m,
                            f"{runs[0]['lr']:g}",
                            *(_cell(runs, s) for s in _ordered(suites)),
                            _exact(runs),
                            _time(_all(groups[m])),
                        ]
                        for m, runs in best.items()
                    ),
                ],
            ),
            "",
            "### The stability frontier",
            "",
            f"In each cell: `{TRAINED}` after training \\| mean change on the other suites \\| runs that ended below half of",
            f"the base model's score on `{TRAINED}`.",
            "",
            _frontier(
                groups, lambda runs: f"{_percent(_level(runs, TRAINED))} \\| {_outside(runs, suites)} \\| {_collapsed(runs)}"
            ),
            "",
            f"Share of successful rollouts at temperature 1 over the {steps} steps, mean over seeds (▁ is 0, █ is 1).",
            "",
            _frontier(groups, lambda runs: f"`{_curve(runs)}`"),
        ]
    )


def _groups(rows: Sequence[Row]) -> dict[str, dict[float, list[Row]]]:
    """Return method -> learning rate -> runs; methods in order of appearance, learning rates ascending."""
    groups: dict[str, dict[float, list[Row]]] = {}
    for row in sorted(rows, key=lambda row: row["lr"]):
        groups.setdefault(row["method"], {}).setdefault(row["lr"], []).append(row)
    order = list(dict.fromkeys(row["method"] for row in rows))
    return {method: groups[method] for method in order}


def _all(by_rate: dict[float, list[Row]]) -> list[Row]:
    return [run for runs in by_rate.values() for run in runs]


def _ordered(suites: Sequence[str]) -> list[str]:
    return [TRAINED, *(suite for suite in suites if suite != TRAINED)]


def _level(runs: Sequence[Row], suite: str, when: str = "after") -> Interval:
    return _bootstrap(np.array([run[when][suite] for run in runs]))


def _change(runs: Sequence[Row], suites: Sequence[str]) -> Interval:
    """Return after minus before, paired by problem, over the problems of all these suites."""
    sides = [np.array([[x for s in suites for x in run[when][s]] for run in runs]) for when in ("after", "before")]
    return _bootstrap(sides[0] - sides[1])


def _bootstrap(scores: np.ndarray) -> Interval:
    """Return the mean of `[runs, problems]` scores with a 95 % interval that resamples both runs and problems."""
    if (scores == scores.flat[0]).all():
        return bootstrap_mean(scores.mean(0).tolist())
    rng = np.random.default_rng(0)
    runs, problems = scores.shape
    drawn_runs = rng.integers(0, runs, (RESAMPLES, runs, 1))
    drawn_problems = rng.integers(0, problems, (RESAMPLES, 1, problems))
    means = scores[drawn_runs, drawn_problems].mean((1, 2))
    low, high = np.quantile(means, (0.025, 0.975))
    return Interval(mean=float(scores.mean()), low=float(low), high=float(high))


def _percent(x: Interval) -> str:
    return f"{100 * x.mean:.0f} ({100 * x.low:.0f}..{100 * x.high:.0f})"


def _signed(x: Interval) -> str:
    return f"{100 * x.mean:+.0f} ({100 * x.low:+.0f}..{100 * x.high:+.0f})"


def _cell(runs: Sequence[Row], suite: str) -> str:
    return f"{_percent(_level(runs, suite))}<br>{_signed(_change(runs, [suite]))}"


def _outside(runs: Sequence[Row], suites: Sequence[str]) -> str:
    return _signed(_change(runs, [suite for suite in suites if suite != TRAINED]))


def _collapsed(runs: Sequence[Row]) -> str:
    fallen = sum(_level([run], TRAINED).mean < 0.5 * _level([run], TRAINED, "before").mean for run in runs)
    return f"{fallen}/{len(runs)}"


def _exact(runs: Sequence[Row]) -> str:
    """Return the share of wrong rollouts whose token weights start exactly at the true first error."""
    counts = [sum(run["oracle"].get(f"oracle/{kind}", 0) for run in runs) for kind in ("exact_start", "within_step", "missed")]
    return f"{100 * counts[0] / sum(counts):.0f} %" if sum(counts) else ""


def _time(runs: Sequence[Row]) -> str:
    """Return the median seconds per step of the fastest run."""
    return f"{min(np.median(run['seconds']) for run in runs):.1f}"


def _curve(runs: Sequence[Row], points: int = 15) -> str:
    success = np.mean([run["success"] for run in runs if len(run["success"]) == runs[0]["steps"]] or [[0.0] * points], axis=0)
    return sparkline([float(part.mean()) for part in np.array_split(success, points)], points)


def _frontier(groups: dict[str, dict[float, list[Row]]], cell: Callable[[Sequence[Row]], str]) -> str:
    rates = sorted({rate for by_rate in groups.values() for rate in by_rate})
    return _table(
        ["method", *(f"lr {rate:g}" for rate in rates)],
        [[method, *(cell(by_rate[rate]) if rate in by_rate else "" for rate in rates)] for method, by_rate in groups.items()],
    )


def _table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *lines))
