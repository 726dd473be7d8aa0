"""Runs the experiment on problems that leave choices, and writes its tables into docs/results.md.

    python benchmarks/reasoning_methods.py run rates      # one tier, or several: rates, cells, methods, twice, others
    python benchmarks/reasoning_methods.py report         # the tables, from benchmarks/results/reasoning-*.jsonl.gz

Each tier is a sweep of `recipes/ablations/reasoning-TIER.sweep.yaml`, two trials at a time, one thread each. What is finished
in `benchmarks/results` does not run again, and an interrupt leaves there what has been finished until then.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from rosd_kit.plugins.manager import PluginManager
from rosd_kit.sweep.exchange import export_results, import_results
from rosd_kit.sweep.plan import make_plan, write_plan
from rosd_kit.sweep.records import TrialResult
from rosd_kit.sweep.report import IN_DOMAIN, OUT_OF_DOMAIN, CombinationResult, Results, read_results
from rosd_kit.sweep.settings import read_sweep
from rosd_kit.sweep.statistics import MeanWithInterval
from rosd_kit.sweep.store import Store

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs/results.md"
TIERS = ("rates", "cells", "methods", "twice", "others")
#: The tables are between these two lines of the page; the text around them is written by hand.
BEGIN, END = "<!-- tables: python benchmarks/reasoning_methods.py report -->", "<!-- end of tables -->"
TRAINED, LONG = "woods", "woods_long"


def sweep_of(tier: str) -> Path:
    """Return the sweep file of a tier."""
    return ROOT / f"recipes/ablations/reasoning-{tier}.sweep.yaml"


def results_of(tier: str) -> Path:
    """Return where the results of a tier are kept."""
    return ROOT / f"benchmarks/results/reasoning-{tier}.jsonl.gz"


def run(tier: str, out: Path, jobs: int) -> None:
    """Run the trials of a tier that are not finished, then write down what is."""
    known = results_of(tier)
    command = [sys.executable, "-m", "rosd_kit", "sweep", str(sweep_of(tier)), "--name", tier, "--out", str(out)]
    command += ["--jobs", str(jobs), "--threads", "1", "--keep", "results"]
    command += ["--results", str(known)] if known.is_file() else []
    try:
        subprocess.run(command, check=True)
    finally:
        with Store(out / tier) as store:
            print(f"{export_results(store, known)} trials are in {known.relative_to(ROOT)}")


def read(tier: str) -> tuple[Results, dict[str, TrialResult]]:
    """Return the statistics of a tier's finished trials, and the result of each."""
    plan = make_plan(read_sweep(str(sweep_of(tier)), ()), PluginManager(selection="builtin").registry)
    with tempfile.TemporaryDirectory() as folder:
        with Store(Path(folder), create=True) as store:
            write_plan(plan, store, [])
            import_results(store, plan.ids, results_of(tier))
            finished = {id: row.result for id, row in store.rows().items() if row.result is not None}
        return read_results(Path(folder)), finished


def table(results: Results, trials: dict[str, TrialResult]) -> str:
    """Return one line for each combination that has finished trials, and one for the model before training."""
    titles = [
        *results.axes,
        *("seeds", "woods, %", "longer", "other worlds", "from the first line"),
        *("slow, woods", "slow, mines", "mended", "entropy", "pass@4", "tokens", "s/step"),
    ]
    before = next(iter(trials.values()))
    rows = [["before", *[""] * len(results.axes), *_means(results.before), "", *_style([before], 0), ""]]
    for one in results.combinations:
        if one.trials:
            own = [trials[id] for id in one.trials]
            rows.append(
                [*one.labels, str(len(own)), *_means(one.means), _difference(one), *_style(own, -1), f"{_seconds(own):.1f}"]
            )
    lines = [titles, ["---"] * len(titles), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)


def _means(means: dict[str, MeanWithInterval] | object) -> list[str]:
    """Return the scores of the trained problems, of longer ones, and of all others, in percent with 95 % intervals."""
    return [_percent(means[name]) for name in (IN_DOMAIN, LONG, OUT_OF_DOMAIN)]  # type: ignore[index]


def _percent(mean: MeanWithInterval) -> str:
    low, high = mean.interval.low, mean.interval.high
    return f"{100 * mean.mean:.0f} ({100 * low:.0f}..{100 * high:.0f})"


def _difference(one: CombinationResult) -> str:
    """Return the paired difference on trained problems, with its verdict."""
    difference = one.differences.get(IN_DOMAIN)
    if difference is None:
        return ""
    interval = difference.value.interval
    return f"{100 * interval.mean:+.0f} ({100 * interval.low:+.0f}..{100 * interval.high:+.0f}), {difference.verdict}"


def _style(trials: Sequence[TrialResult], index: int) -> list[str]:
    """Return how solutions are written at the evaluation of this index: means over trials."""
    suites = [{suite["suite"]: suite for suite in trial["evaluations"][index]["results"]} for trial in trials]

    def mean(values: Iterable[float]) -> float:
        found = list(values)
        return sum(found) / len(found)

    shares = [
        mean(one[TRAINED]["traits"]["slow"] for one in suites),
        mean(one["mines"]["traits"]["slow"] for one in suites),
        mean(one[TRAINED]["traits"]["mended"] for one in suites),
    ]
    entropy = mean(one[TRAINED]["entropy"] for one in suites)
    solved = mean(one[TRAINED]["pass_at"]["4"]["mean"] for one in suites)
    tokens = mean(one[TRAINED]["mean_tokens"] for one in suites)
    return [*(f"{100 * share:.0f}" for share in shares), f"{entropy:.3f}", f"{100 * solved:.0f}", f"{tokens:.0f}"]


def _seconds(trials: Sequence[TrialResult]) -> float:
    times = [trial["training"]["time/step"] for trial in trials]
    return sum(times) / len(times)


def write_page() -> None:
    """Put the tables of all tiers that have results into the page."""
    blocks = []
    for tier in TIERS:
        if results_of(tier).is_file():
            results, trials = read(tier)
            planned = sum(one.planned for one in results.combinations)
            blocks += [f"### {tier.capitalize()}: {len(trials)} of {planned} trials", "", table(results, trials), ""]
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
        write_page()


if __name__ == "__main__":
    main()
