"""Runs the experiment on problems that leave choices, and writes its tables into docs/results.md.

    python benchmarks/reasoning_methods.py run rates      # one tier, or several; without a name all
    python benchmarks/reasoning_methods.py report         # the tables, from benchmarks/results/reasoning-*.jsonl.gz

Each tier is a sweep of `recipes/ablations/reasoning-TIER.sweep.yaml`, two trials at a time, one thread each. What is finished
in `benchmarks/results` does not run again, and an interrupt leaves there what has been finished until then.
"""

from __future__ import annotations

import argparse
import contextlib
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

from rosd_kit.plugins.manager import PluginManager
from rosd_kit.sweep.effects import Effects, read_effects
from rosd_kit.sweep.exchange import export_results, import_results
from rosd_kit.sweep.plan import make_plan, write_plan
from rosd_kit.sweep.plots import write_plots
from rosd_kit.sweep.records import TrialResult
from rosd_kit.sweep.report import ALPHA, CombinationResult, Difference, Results, read_results
from rosd_kit.sweep.scores import IN_DOMAIN, OUT_OF_DOMAIN
from rosd_kit.sweep.settings import read_sweep
from rosd_kit.sweep.statistics import MeanWithInterval
from rosd_kit.sweep.store import Store

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs/results.md"
PICTURES = "pictures/reasoning-{}"  # of a tier, beside the page
#: The tiers of which pictures are drawn, and which ones.
DRAWN = {"cells": ("differences", "domains"), "methods": ("curves", "differences"), "twice": ("curves",)}
DRAWN |= dict.fromkeys(("others", "imitation", "reflector"), ("differences",))
CAPTIONS = {
    "curves": "successful rollouts in training over the steps",
    "differences": "differences from the first line of the table",
    "domains": "in the trained domain and outside it",
}
TIERS = ("rates", "cells", "methods", "twice", "others", "imitation", "reflector", "unlimited")
#: The tier whose axes are fully crossed, so that each has an effect of its own once all trials are finished.
CROSSED = "cells"
#: The tables are between these two lines of the page; the text around them is written by hand.
BEGIN, END = "<!-- tables: python benchmarks/reasoning_methods.py report -->", "<!-- end of tables -->"
TRAINED = "woods"
#: The suites, and how a column is headed. The first is the trained one.
SUITES = ((TRAINED, "woods"), ("woods_long", "longer"), ("docks", "docks"), ("mines", "mines"), ("gates", "gates"))
#: An evaluation's suites by name, as they are recorded.
Suites: TypeAlias = Mapping[str, Any]
#: Columns on how solutions are written: shares, nats per token, distinct bigrams among samples, tokens per solution.
STYLE: tuple[tuple[str, str, Callable[[Suites], float]], ...] = (
    ("slow, woods", "{:.0%}", lambda suites: suites[TRAINED]["traits"]["slow"]),
    ("slow, mines", "{:.0%}", lambda suites: suites["mines"]["traits"]["slow"]),
    ("mended", "{:.0%}", lambda suites: suites[TRAINED]["traits"]["mended"]),
    ("switches", "{:.0%}", lambda suites: suites[TRAINED]["traits"]["switches"]),
    ("entropy", "{:.3f}", lambda suites: suites[TRAINED]["entropy"]),
    ("bigrams", "{:.2f}", lambda suites: suites[TRAINED]["bigrams"]),
    ("tokens", "{:.0f}", lambda suites: suites[TRAINED]["mean_tokens"]),
    ("pass@4", "{:.0%}", lambda suites: suites[TRAINED]["pass_at"]["4"]["mean"]),
)


def sweep_of(tier: str) -> Path:
    """Return the sweep file of a tier."""
    return ROOT / f"recipes/ablations/reasoning-{tier}.sweep.yaml"


def results_of(tier: str) -> Path:
    """Return where the results of a tier are kept."""
    return ROOT / f"benchmarks/results/reasoning-{tier}.jsonl.gz"


def run(tier: str, out: Path, jobs: int) -> None:
    """Run the trials of a tier that are not finished, then write down what is."""
    kept = results_of(tier)
    command = [sys.executable, "-m", "rosd_kit", "sweep", str(sweep_of(tier)), "--name", tier, "--out", str(out)]
    command += ["--jobs", str(jobs), "--threads", "1", "--keep", "results"]
    for known in map(results_of, TIERS):  # tiers share trials
        command += ["--results", str(known)] if known.is_file() else []
    with subprocess.Popen(command) as sweep:
        while sweep.poll() is None:
            with contextlib.suppress(KeyboardInterrupt):  # the sweep gets it too, and ends once its trials have saved
                sweep.wait()
    with Store(out / tier) as store:
        print(f"{export_results(store, kept)} trials are in {kept.relative_to(ROOT)}")
    if sweep.returncode:
        sys.exit(sweep.returncode)


def read(tier: str) -> tuple[Results, list[Effects], dict[str, TrialResult]]:
    """Return the statistics of a tier's finished trials, what its axes change where it says so, and each trial's result."""
    plan = make_plan(read_sweep(str(sweep_of(tier)), ()), PluginManager(selection="builtin").registry)
    with tempfile.TemporaryDirectory() as folder:
        with Store(Path(folder), create=True) as store:
            write_plan(plan, store, [])
            import_results(store, plan.ids, results_of(tier))
            finished = {id: row.result for id, row in store.rows().items() if row.result is not None}
        splits = ([], ["context"]) if tier == CROSSED and len(finished) == len(plan.ids) else ()
        return read_results(Path(folder)), [read_effects(Path(folder), within=split) for split in splits], finished


def score_table(results: Results) -> str:
    """Return what was solved, in percent with 95 % intervals: a line before training and one for each combination."""
    titles = [*results.axes, "seeds", *(title for _, title in SUITES), "woods, difference", "other suites, difference"]
    before = ["before", *[""] * len(results.axes), *(_percent(results.before[name]) for name, _ in SUITES), "", ""]
    rows = [
        [
            *one.labels,
            str(len(one.trials)),
            *(_percent(one.means[name]) for name, _ in SUITES),
            *(_difference(one, name) for name in (IN_DOMAIN, OUT_OF_DOMAIN)),
        ]
        for one in results.combinations
        if one.trials
    ]
    return _markdown(titles, [before, *rows])


def course_table(results: Results, trials: dict[str, TrialResult]) -> str:
    """Return the percentage solved in the woods and in the mines at each evaluation: mean (least..greatest seed)."""
    steps = [evaluation["step"] for evaluation in next(iter(trials.values()))["evaluations"]]
    suites = [(suite, title) for suite, title in SUITES if suite in (TRAINED, "mines")]
    rows = []
    for one in results.combinations:
        if own := [trials[id] for id in one.trials]:
            rows.append([*one.labels, *(_spread(own, suite, index) for suite, _ in suites for index in range(len(steps)))])
    return _markdown([*results.axes, *(f"{title}, step {step}" for _, title in suites for step in steps)], rows)


def effect_table(effects: Effects) -> str:
    """Return what each axis changes on the trained suite and on each other suite, in points with 95 % intervals."""
    titles = [*effects.within, "part", "instead of", *(title for _, title in SUITES), "verdicts"]
    rows = []
    for one in effects.effects:
        cells = [_points(one.differences[name].value) for name, _ in SUITES]
        told = [f"{title} {one.differences[name].verdict}" for name, title in SUITES if _is_told(one.differences[name])]
        rows.append([*one.within, f"{one.axis}: {one.value}", one.reference, *cells, ", ".join(told) or "none"])
    return _markdown(titles, rows)


def style_table(results: Results, trials: dict[str, TrialResult]) -> str:
    """Return how solutions of the evaluation are written, and what the training did: means over trials."""
    titles = [*results.axes, *(title for title, _, _ in STYLE), "located", "weighted tokens", "s/step"]
    rows = [["before", *[""] * (len(results.axes) - 1), *_style([next(iter(trials.values()))], 0), "", "", ""]]
    for one in results.combinations:
        if own := [trials[id] for id in one.trials]:
            weighted, seconds = _training(own, "train/weighted_tokens"), _training(own, "time/step")
            rows.append([*one.labels, *_style(own, -1), _located(own), f"{weighted:.0f}", f"{seconds:.1f}"])
    return _markdown(titles, rows)


def _markdown(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [titles, ["---"] * len(titles), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)


def _percent(mean: MeanWithInterval) -> str:
    low, high = mean.interval.low, mean.interval.high
    return f"{100 * mean.mean:.0f} ({100 * low:.0f}..{100 * high:.0f})"


def _points(value: MeanWithInterval) -> str:
    interval = value.interval
    return f"{100 * interval.mean:+.0f} ({100 * interval.low:+.0f}..{100 * interval.high:+.0f})"


def _is_told(difference: Difference) -> bool:
    """Return whether a difference is told from chance after correction."""
    return difference.adjusted_p < ALPHA


def _difference(one: CombinationResult, suites: str) -> str:
    """Return the paired difference from the first combination on these suites, with its verdict."""
    difference = one.differences.get(suites)
    if difference is None:
        return ""
    return f"{_points(difference.value)}, {difference.verdict}"


def _style(trials: Sequence[TrialResult], index: int) -> list[str]:
    """Return the columns of `STYLE` at the evaluation of this index: means over trials."""
    named = [{suite["suite"]: suite for suite in trial["evaluations"][index]["results"]} for trial in trials]
    return [form.format(sum(map(value, named)) / len(named)) for _, form, value in STYLE]


def _spread(trials: Sequence[TrialResult], suite: str, index: int) -> str:
    evaluations = [trial["evaluations"][index]["results"] for trial in trials]
    means = [100 * result["mean"] for results in evaluations for result in results if result["suite"] == suite]
    return f"{sum(means) / len(means):.0f} ({min(means):.0f}..{max(means):.0f})"


def _training(trials: Sequence[TrialResult], metric: str) -> float:
    """Return a metric's mean over steps and trials; 0 where it was never recorded."""
    return sum(trial["training"].get(metric, 0.0) for trial in trials) / len(trials)


def _located(trials: Sequence[TrialResult]) -> str:
    """Return in what share of the wrong rollouts whose error the oracle knows the weights begin exactly there."""
    exact, *others = (_training(trials, f"oracle/{name}") for name in ("exact_start", "within_step", "missed"))
    asked = exact + sum(others)
    return f"{100 * exact / asked:.0f}" if asked else ""


def draw(tier: str, results: Results, out: Path) -> list[str]:
    """Write the pictures of a tier, and return the lines that show them. Curves need the folders of the runs."""
    folder = PICTURES.format(tier)
    wanted = DRAWN.get(tier, ())
    for file in write_plots(replace(results, folder=out / tier), PAGE.parent / folder) if wanted else ():
        if file.stem not in wanted:
            file.unlink()
    drawn = [name for name in wanted if (PAGE.parent / folder / f"{name}.svg").is_file()]
    return [f"![{tier.capitalize()}: {CAPTIONS[name]}]({folder}/{name}.svg)" for name in drawn]


def write_page(out: Path) -> None:
    """Put the tables and pictures of all tiers that have results into the page."""
    blocks = []
    for tier in TIERS:
        if results_of(tier).is_file():
            results, effects, trials = read(tier)
            planned = sum(one.planned for one in results.combinations)
            blocks += [f"### {tier.capitalize()}: {len(trials)} of {planned} trials", "", score_table(results), ""]
            blocks += [text for one in effects for text in (effect_table(one), "")]
            blocks += [text for line in draw(tier, results, out) for text in (line, "")]
            if len(next(iter(trials.values()))["evaluations"]) > 2:
                blocks += [course_table(results, trials), ""]
            blocks += [style_table(results, trials), ""]
    before, _, rest = PAGE.read_text().partition(BEGIN)
    PAGE.write_text(f"{before}{BEGIN}\n\n" + "\n".join(blocks) + f"\n{END}{rest.partition(END)[2]}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("run", "report"))
    parser.add_argument("tiers", nargs="*", choices=[*TIERS, []], metavar="TIER", default=[])
    parser.add_argument("--out", type=Path, default=ROOT / "sweeps/reasoning", help="where the sweeps' folders are")
    parser.add_argument("--jobs", type=int, default=2, help="trials at once, one thread each")
    args = parser.parse_args()
    if args.what == "run":
        for tier in args.tiers or TIERS:
            run(tier, args.out, args.jobs)
    else:
        write_page(args.out)


if __name__ == "__main__":
    main()
