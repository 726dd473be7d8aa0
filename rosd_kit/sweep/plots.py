"""Plots a sweep's results with matplotlib: learning curves, differences, and in-domain against out-of-domain.

The files are SVG without dates or random ids, so the same results give the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rosd_kit.errors import RunError
from rosd_kit.sweep.report import CombinationResult, Results
from rosd_kit.sweep.scores import IN_DOMAIN, OUT_OF_DOMAIN, shown_measures

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CURVE_METRIC = "rollout/success"
#: Curves that are this near everywhere, in percentage points, hide each other.
_POINT = 1.0
_STYLE: dict[Any, Any] = {  # matplotlib types the keys as a Literal of all its settings
    "svg.hashsalt": "rosd-kit",
    "svg.fonttype": "none",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
}
_LINE_STYLES = ("-", "--", ":", "-.")
#: Markers of combinations that share a colour.
_MARKERS = "osD^"


def write_plots(results: Results, folder: Path) -> list[Path]:
    """Write `curves.svg`, `differences.svg` and `domains.svg`, as far as there is data for them. Return the files.

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
    plots: dict[str, Callable[[Results, Figure], bool]] = {
        "curves": _plot_curves,
        "differences": _plot_differences,
        "domains": _plot_domains,
    }
    with mpl.rc_context(_STYLE):
        for name, plot in plots.items():
            figure = Figure(layout="constrained")
            FigureCanvasSVG(figure)
            if plot(results, figure):
                files.append(folder / f"{name}.svg")
                figure.savefig(files[-1], metadata={"Date": None})
    return files


def _plot_curves(results: Results, figure: Figure) -> bool:
    """Plot the share of successful rollouts by step: the mean and the range of the seeds.

    Curves that would hide each other are drawn apart, a panel each with the recipe's in grey.
    """
    curves = [(index, one, 100 * results.curve(one, CURVE_METRIC)) for index, one in _with_trials(results)]
    curves = [(index, one, curve) for index, one, curve in curves if curve.size]
    if not curves:
        return False
    title = f"{results.name}: successful rollouts in training, %, mean and range over seeds"
    if _hide_each_other([curve.mean(axis=0) for _, _, curve in curves]):
        columns = min(3, len(curves))
        figure.set_size_inches(8, 0.6 + 2.0 * -(-len(curves) // columns))
        panels = figure.subplots(-(-len(curves) // columns), columns, sharex=True, sharey=True, squeeze=False).flat
        for panel, (index, combination, curve) in zip(panels, curves, strict=False):
            first = curves[0][2].mean(axis=0)
            panel.plot(np.arange(1, len(first) + 1), first, color="0.7", linewidth=1)
            _draw_curve(panel, curve, index, _name(results, combination))
            panel.set_title(_name(results, combination), fontsize=8)
        for panel in list(panels):
            panel.set_visible(False)
    else:
        figure.set_size_inches(8, 3.2)
        axes = figure.add_subplot()
        for index, combination, curve in curves:
            _draw_curve(axes, curve, index, _name(results, combination))
        axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize=8)
    figure.suptitle(title, fontsize=9)
    figure.supxlabel("step", fontsize=9)
    figure.axes[0].set_ylim(0, 101)
    return True


def _draw_curve(axes: Any, curve: NDArray[np.float64], index: int, label: str) -> None:
    steps = np.arange(1, curve.shape[1] + 1)
    colour, line_style = _style(index)
    axes.plot(steps, curve.mean(axis=0), line_style, color=colour, label=label, linewidth=1.5)
    axes.fill_between(steps, curve.min(axis=0), curve.max(axis=0), color=colour, alpha=0.12, linewidth=0)


def _hide_each_other(curves: Sequence[NDArray[np.float64]]) -> bool:
    """Return whether two curves are nowhere more than a point apart at the steps that both have."""
    pairs = ((one, other) for at, one in enumerate(curves) for other in curves[at + 1 :])
    return any(bool(np.abs(one[: len(other)] - other[: len(one)]).max() <= _POINT) for one, other in pairs)


def _plot_differences(results: Results, figure: Figure) -> bool:
    """Plot every difference from the recipe with its interval (a forest plot); markers are filled where it is significant."""
    combinations = [combination for combination in results.combinations[1:] if combination.differences]
    measures = shown_measures(results.measures, suites=False)
    if not combinations:
        return False
    figure.set_size_inches(7.2, 1.2 + 0.32 * len(combinations))
    panels = figure.subplots(1, len(measures), sharey=True, squeeze=False)[0]
    for panel, measure in zip(panels, measures, strict=True):
        panel.axvline(0, color="0.6", linewidth=0.8)
        for row, combination in enumerate(combinations):
            difference = combination.differences[measure]
            interval, significant = difference.value.interval, difference.verdict != "no difference shown"
            colour = "0.35" if not significant else "C2" if interval.mean > 0 else "C3"
            panel.plot([100 * interval.low, 100 * interval.high], [row, row], color=colour, linewidth=1.5)
            panel.plot(100 * interval.mean, row, "o", color=colour, markerfacecolor=colour if significant else "white")
        panel.set(title=measure, xlabel="points")
    figure.suptitle(f"{results.name}: difference from the recipe; filled where significant after Holm's correction", fontsize=9)
    panels[0].set_yticks(range(len(combinations)), [combination.label for combination in combinations])
    panels[0].set_ylim(len(combinations) - 0.5, -0.5)
    return True


def _plot_domains(results: Results, figure: Figure) -> bool:
    """Plot each combination by its in-domain and out-of-domain mean, with both intervals."""
    if not {IN_DOMAIN, OUT_OF_DOMAIN} <= results.measures.keys():
        return False
    figure.set_size_inches(8, 3.6)
    axes = figure.add_subplot()
    axes.set_title(f"{results.name}: after training, with 95 % intervals")
    points = [(results.before, "before training", "k", "x")]
    points += [
        (combination.means, _name(results, combination), f"C{index % 10}", _MARKERS[index // 10 % len(_MARKERS)])
        for index, combination in _with_trials(results)
    ]
    for means, name, colour, marker in points:
        inside, outside = means[IN_DOMAIN].interval, means[OUT_OF_DOMAIN].interval
        x_error, y_error = ([[100 * (i.mean - i.low)], [100 * (i.high - i.mean)]] for i in (inside, outside))
        axes.errorbar(
            100 * inside.mean,
            100 * outside.mean,
            xerr=x_error,
            yerr=y_error,
            fmt=marker,
            color=colour,
            label=name,
            elinewidth=0.8,
        )
    axes.set(xlabel="in domain, %", ylabel="out of domain, %")
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize=8)
    return True


def _with_trials(results: Results) -> list[tuple[int, CombinationResult]]:
    return [(index, combination) for index, combination in enumerate(results.combinations) if combination.means]


def _style(index: int) -> tuple[str, str]:
    """Return the colour and line style of a combination."""
    return f"C{index % 10}", _LINE_STYLES[index // 10 % len(_LINE_STYLES)]


def _name(results: Results, combination: CombinationResult) -> str:
    return f"{combination.label} (the recipe)" if combination is results.combinations[0] else combination.label
