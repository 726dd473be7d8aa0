"""What the commands do: plan, rehearse, run and report. Prints; decides nothing."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table

from rosd_kit.display.plain import say
from rosd_kit.errors import RunError
from rosd_kit.plugins.manager import PluginManager
from rosd_kit.sweep.combinations import told
from rosd_kit.sweep.launchers import make_launcher
from rosd_kit.sweep.plan import Plan, make_plan, write_plan
from rosd_kit.sweep.scheduler import LEASE, Keep, Sweeper
from rosd_kit.sweep.settings import Sweep
from rosd_kit.sweep.store import FILE, Row, Store


@dataclass(frozen=True, kw_only=True)
class Places:
    """Where trials run, how many at once, and with how many threads each; None leaves it to the launcher."""

    launcher: str = "processes"
    options: Mapping[str, str] = field(default_factory=dict)
    jobs: int | None = None
    threads: int | None = None
    lease: float = LEASE


def run_sweep(
    sweep: Sweep, manager: PluginManager, folder: Path, plugins: Sequence[str], places: Places, keep: Keep, *, retry: bool
) -> bool:
    """Run a sweep, or go on with it; returns whether all its trials are finished."""
    _check(places)
    console = Console(highlight=False)
    plan = make_plan(sweep, manager.registry)
    launcher = make_launcher(places.launcher, places.options)
    try:
        with Store(folder, create=True) as store:
            write_plan(plan, store, plugins)
            if retry:
                store.retry(plan.ids)
            jobs = places.jobs or launcher.jobs
            usual = os.environ.get("OMP_NUM_THREADS") or max(1, cores() // jobs)
            threads = places.threads or int(store.fact("threads", str(usual)))
            width = f"{jobs} at once, {threads} thread{'s' * (threads != 1)} each"
            say(console, f"{_size(plan)} in {folder}; {_states(store.rows(plan.ids))}; {width}")
            _tell_skipped(console, plan)
        done = Sweeper(
            folder=folder,
            ids=plan.ids,
            launcher=launcher,
            jobs=jobs,
            threads=threads,
            gpu=plan.cells[0].recipe.model.device != "cpu",
            keep=keep,
            lease=places.lease,
            say=lambda line: say(console, line),
        ).run()
    finally:
        launcher.close()
    with Store(folder) as store:
        rows = store.rows(plan.ids)
    failed = [row for row in rows.values() if row.state == "failed"]
    say(console, f"{_states(rows)}; see: rosd-kit sweep report {folder}")
    if failed:
        say(console, "failed trials are tried again with --retry")
    return done and not failed


def rehearse(sweep: Sweep, manager: PluginManager, folder: Path, *, jobs: int) -> None:
    """Show the trials of a sweep, what is left out and why, and how long it will take; write nothing."""
    from rosd_kit.sweep.estimate import estimate_time

    console = Console(highlight=False)
    plan = make_plan(sweep, manager.registry)
    rows: dict[str, Row] = {}
    if (folder / FILE).is_file():
        with Store(folder) as store:
            rows = store.rows()
    table = Table("trial", "seed", *(axis.field for axis in plan.sweep.axes), "state", box=None)
    shown = set()
    for trial in plan.trials:
        stands = rows[trial.id].state if trial.id in rows else "new"
        state = f"same as above ({stands})" if trial.id in shown else stands
        shown.add(trial.id)
        table.add_row(trial.id, str(trial.seed), *plan.labels(plan.cells[trial.cell]), state)
    console.print(table)
    _tell_skipped(console, plan)
    for cell in plan.cells:
        for note in cell.notes:
            say(console, f"by rule, in {told(cell.settings)}: {note}")
    say(console, _size(plan))
    say(console, estimate_time(plan, rows, manager, jobs=jobs))


def tell(folder: Path, *, plan: str | None, format: str, suites: bool, plots: Path | None) -> None:
    """Print what came out of a sweep, and write plots of it."""
    from rosd_kit.sweep.formats import FORMATS, print_table
    from rosd_kit.sweep.report import read_results

    results = read_results(folder, plan)
    if format == "table":
        print_table(results, Console(highlight=False), suites=suites)
    else:
        print(FORMATS[format](results, suites))
    if plots is not None:
        from rosd_kit.sweep.plots import write_plots

        for file in write_plots(results, plots):
            say(Console(stderr=True, highlight=False), f"wrote {file}")


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _check(places: Places) -> None:
    for name, value in (("--jobs", places.jobs), ("--threads", places.threads)):
        if value is not None and value < 1:
            raise RunError(f"{name}: {value} is not allowed. Give 1 or more")
    if places.lease <= 0:
        raise RunError(f"--lease: {places.lease} is not allowed. Give seconds above 0, such as 60")


def _size(plan: Plan) -> str:
    seeds = len({trial.seed for trial in plan.trials})
    return f"{plan.sweep.name}: {len(plan.ids)} trials: {len(plan.cells)} combinations ({plan.sweep.design}), {seeds} seeds"


def _states(rows: Mapping[str, Row]) -> str:
    counts = Counter(row.state for row in rows.values())
    return ", ".join(f"{counts[state]} {state}" for state in ("finished", "failed", "running", "waiting") if counts[state])


def _tell_skipped(console: Console, plan: Plan) -> None:
    for skipped in plan.skipped:
        say(console, f"left out: {told(skipped.settings)}: {skipped.reason}")
