"""Pictures of a sweep's results by matplotlib: learning curves, differences, in-domain against out-of-domain.

The files are SVG without dates or random names, so that the same results give the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from rosd_kit.errors import RunError
from rosd_kit.sweep.report import IN_DOMAIN, OUT_OF_DOMAIN, CellResult, Results

CURVE = "rollout/success"
_STYLE: dict[Any, Any] = {
    "svg.hashsalt": "rosd-kit",
    "svg.fonttype": "none",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
}
_LINES = ("-", "--", ":", "-.")


def write_plots(results: Results, folder: Path) -> list[Path]:
    """Write what the results allow of `curves.svg`, `differences.svg`, `domains.svg`; return the files.

    Raises `RunError` without matplotlib.
    """
    try:
        import matplotlib as mpl
        from matplotlib.backends.backend_svg import FigureCanvasSVG
        from matplotlib.figure import Figure
    except ImportError:
        raise RunError("sweep report --plots: needs matplotlib: pip install 'rosd-kit[plots]'") from None
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    draw: dict[str, Callable[[Results, Any], bool]] = {"curves": _curves, "differences": _forest, "domains": _domains}
    with mpl.rc_context(_STYLE):
        for name, paint in draw.items():
            figure = Figure(layout="constrained")
            FigureCanvasSVG(figure)
            if paint(results, figure):
                files.append(folder / f"{name}.svg")
                figure.savefig(files[-1], metadata={"Date": None})
    return files


def _curves(results: Results, figure: Any) -> bool:
    """Draw the share of right rollouts over the steps: the mean of the seeds, and between which values they lie."""
    figure.set_size_inches(8, 3.2)
    axes = figure.add_subplot()
    for place, cell in _with_trials(results):
        curves = 100 * results.curve(cell, CURVE)
        if not curves.size:
            continue
        steps = np.arange(1, curves.shape[1] + 1)
        colour, line = _look(place)
        axes.plot(steps, curves.mean(axis=0), line, color=colour, label=_name(results, cell), linewidth=1.5)
        axes.fill_between(steps, curves.min(axis=0), curves.max(axis=0), color=colour, alpha=0.12, linewidth=0)
    axes.set(
        xlabel="step", ylabel="right rollouts in training, %", ylim=(0, 101), title=f"{results.name}: mean and range of seeds"
    )
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize=8)
    return bool(axes.lines)


def _forest(results: Results, figure: Any) -> bool:
    """Draw every difference from the recipe with its interval; filled where it is shown."""
    cells = [cell for cell in results.cells[1:] if cell.differences]
    measures = results.shown(suites=False)
    if not cells:
        return False
    figure.set_size_inches(7.2, 1.2 + 0.32 * len(cells))
    panels = figure.subplots(1, len(measures), sharey=True, squeeze=False)[0]
    for panel, measure in zip(panels, measures, strict=True):
        panel.axvline(0, color="0.6", linewidth=0.8)
        for place, cell in enumerate(cells):
            found = cell.differences[measure]
            interval, shown = found.estimate.interval, found.verdict != "no difference shown"
            colour = "0.35" if not shown else "C2" if interval.mean > 0 else "C3"
            panel.plot([100 * interval.low, 100 * interval.high], [place, place], color=colour, linewidth=1.5)
            panel.plot(100 * interval.mean, place, "o", color=colour, markerfacecolor=colour if shown else "white")
        panel.set(title=measure, xlabel="difference from the recipe, points")
    figure.suptitle(f"{results.name}: filled where a difference is shown after Holm's correction", fontsize=9)
    panels[0].set_yticks(range(len(cells)), [cell.label for cell in cells])
    panels[0].set_ylim(len(cells) - 0.5, -0.5)
    return True


def _domains(results: Results, figure: Any) -> bool:
    """Draw each combination by what it has inside and outside the trained domain, with both intervals."""
    if not {IN_DOMAIN, OUT_OF_DOMAIN} <= results.measures.keys():
        return False
    figure.set_size_inches(8, 3.6)
    axes = figure.add_subplot()
    axes.set_title(f"{results.name}: after training, with 95 % intervals")
    points = [(results.before, "before training", "k", "x")]
    points += [(cell.means, _name(results, cell), _look(place)[0], "o") for place, cell in _with_trials(results)]
    for means, name, colour, mark in points:
        inside, outside = means[IN_DOMAIN].interval, means[OUT_OF_DOMAIN].interval
        spread = [[[100 * (i.mean - i.low)], [100 * (i.high - i.mean)]] for i in (inside, outside)]
        axes.errorbar(
            100 * inside.mean,
            100 * outside.mean,
            xerr=spread[0],
            yerr=spread[1],
            fmt=mark,
            color=colour,
            label=name,
            elinewidth=0.8,
        )
    axes.set(xlabel="in domain, %", ylabel="out of domain, %")
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize=8)
    return True


def _with_trials(results: Results) -> list[tuple[int, CellResult]]:
    return [(place, cell) for place, cell in enumerate(results.cells) if cell.means]


def _look(place: int) -> tuple[str, str]:
    """Return a colour and a line that tell a cell from others."""
    return f"C{place % 10}", _LINES[place // 10 % len(_LINES)]


def _name(results: Results, cell: CellResult) -> str:
    return f"{cell.label} (the recipe)" if cell is results.cells[0] else cell.label
