"""The actions behind `rosd-kit sweep`: run, dry run and report. Prints progress; decides nothing."""

from __future__ import annotations

import math
import os
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table

from rosd_kit.display.plain import print_line
from rosd_kit.errors import RunError
from rosd_kit.plugins.manager import PluginManager
from rosd_kit.recipe import to_yaml
from rosd_kit.run.links import check_entries
from rosd_kit.sweep.combinations import describe
from rosd_kit.sweep.exchange import export_results, import_results
from rosd_kit.sweep.launchers import make_launcher
from rosd_kit.sweep.live_table import LiveTable
from rosd_kit.sweep.plan import Plan, make_plan, write_plan
from rosd_kit.sweep.progress import TrialLabel, TrialProgress, describe_end, read_progress, trial_labels
from rosd_kit.sweep.scheduler import LEASE_SECONDS, Keep, Scheduler
from rosd_kit.sweep.settings import Sweep
from rosd_kit.sweep.store import FILE, Row, Store
from rosd_kit.sweep.trial_id import trust_digests
from rosd_kit.sweep.worker import EVALUATIONS, LOGS, TRIALS


@dataclass(frozen=True, kw_only=True)
class LaunchSettings:
    """Where trials run, how many at once, and with how many threads each; None means the launcher's default."""

    launcher: str = "processes"
    options: Mapping[str, str] = field(default_factory=dict)
    jobs: int | None = None
    threads: int | None = None
    lease: float = LEASE_SECONDS


def run_sweep(
    sweep: Sweep,
    manager: PluginManager,
    folder: Path,
    plugins: Sequence[str],
    launch: LaunchSettings,
    keep: Keep,
    *,
    retry: bool,
    finished: Sequence[Path] = (),
) -> bool:
    """Run or continue a sweep; trials that are finished in the files `finished` do not run. Return whether all are finished."""
    _check(launch)
    console = Console(highlight=False)
    plan = make_plan(sweep, manager.registry)
    if folder.is_dir():
        check_entries(folder, {TRIALS: 1, EVALUATIONS: 1, LOGS: 1})
    launcher = make_launcher(launch.launcher, launch.options)
    try:
        with Store(folder, create=True) as store:
            write_plan(plan, store, plugins)
            for file in finished:
                print_line(console, f"{import_results(store, plan.ids, file)} trials are finished in {file}")
            if retry:
                store.retry(plan.ids)
            jobs = launch.jobs or launcher.jobs
            default_threads = os.environ.get("OMP_NUM_THREADS") or max(1, available_cores() // jobs)
            threads = launch.threads or int(store.set_default("threads", str(default_threads)))
            width = f"{jobs} at once, {threads} thread{'s' * (threads != 1)} each"
            print_line(console, f"{_size(plan)} in {folder}; {_states(store.rows(plan.ids))}; {width}")
            _print_skipped(console, plan)
        labels, axes = trial_labels(plan), [axis.field for axis in plan.sweep.axes]
        scheduler = Scheduler(
            folder=folder,
            ids=plan.ids,
            launcher=launcher,
            jobs=jobs,
            threads=threads,
            gpu=plan.combinations[0].recipe.model.device != "cpu",
            keep=keep,
            lease=launch.lease,
            digests={trial.id: trust_digests(to_yaml(trial.recipe), plugins) for trial in plan.trials},
            notify=lambda line: print_line(console, line),
            describe=lambda row: describe_end(labels[row.id], axes, row),
        )
        done = _run_live(scheduler, console, axes, labels) if console.is_terminal else scheduler.run()
    finally:
        launcher.close()
    with Store(folder) as store:
        rows = store.rows(plan.ids)
    failed = [row for row in rows.values() if row.state == "failed"]
    print_line(console, _states(rows))
    for command, shows in (("sweep report", "as text"), ("report", "as a page")):
        print_line(console, f"  rosd-kit {command} {shlex.quote(str(folder))}    # {shows}", copied=True)
    if failed:
        print_line(console, "to run failed trials again, add --retry")
    return done and not failed


def _run_live(scheduler: Scheduler, console: Console, axes: Sequence[str], labels: Mapping[str, TrialLabel]) -> bool:
    """Run the trials below a live table of them."""
    with Store(scheduler.folder) as store:

        def read() -> Mapping[str, TrialProgress]:
            return read_progress(scheduler.folder, store, scheduler.ids)

        with LiveTable(console=console, axes=axes, labels=labels, jobs=scheduler.jobs, read=read) as table:
            scheduler.tick = table.tick
            return scheduler.run()


def print_dry_run(sweep: Sweep, manager: PluginManager, folder: Path, *, jobs: int) -> None:
    """Print a sweep's trials, what is skipped and why, and the time it will take. Writes nothing."""
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
        state = rows[trial.id].state if trial.id in rows else "new"
        cell = f"same as above ({state})" if trial.id in shown else state
        shown.add(trial.id)
        table.add_row(trial.id, str(trial.seed), *plan.labels(plan.combinations[trial.combination]), cell)
    console.print(table)
    _print_skipped(console, plan)
    for combination in plan.combinations:
        for note in combination.notes:
            print_line(console, f"by rule, in {describe(combination.assignment)}: {note}")
    print_line(console, _size(plan))
    print_line(console, estimate_time(plan, rows, manager, jobs=jobs))


def print_report(
    folder: Path, *, plan: str | None, format: str, suites: bool, effects: bool, within: Sequence[str], plots: Path | None
) -> None:
    """Print a sweep's results, or with `effects` what each of its axes changes, and write plots of the results."""
    from rosd_kit.sweep.effects import read_effects
    from rosd_kit.sweep.formats import FORMATS, print_tables
    from rosd_kit.sweep.report import read_results
    from rosd_kit.sweep.tables import effects_report, results_report

    if effects:
        report = effects_report(read_effects(folder, plan, within), suites=suites)
    else:
        report = results_report(read_results(folder, plan), suites=suites)
    if format == "table":
        print_tables(report, Console(highlight=False))
    else:
        print(FORMATS[format](report))
    if plots is not None:
        from rosd_kit.sweep.plots import write_plots

        for file in write_plots(read_results(folder, plan), plots):
            print_line(Console(stderr=True, highlight=False), f"wrote {file}")


def print_export(folder: Path, file: Path) -> None:
    """Write the results of a sweep's finished trials into a file, and say how many they are."""
    with Store(folder) as store:
        count = export_results(store, file)
    print_line(Console(highlight=False), f"wrote the results of {count} finished trials to {file}")


def available_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _check(launch: LaunchSettings) -> None:
    for name, value in (("--jobs", launch.jobs), ("--threads", launch.threads)):
        if value is not None and value < 1:
            raise RunError(f"{name}: {value} is not allowed. Give 1 or more")
    if not 0 < launch.lease < math.inf:
        raise RunError(f"--lease: {launch.lease} is not allowed. Give a number of seconds above 0, for example 60")


def _size(plan: Plan) -> str:
    seeds, combinations = len({trial.seed for trial in plan.trials}), len(plan.combinations)
    noun = "seed" if seeds == 1 else "seeds"
    return f"{plan.sweep.name}: {len(plan.ids)} trials: {combinations} combinations ({plan.sweep.design}), {seeds} {noun}"


def _states(rows: Mapping[str, Row]) -> str:
    counts = Counter(row.state for row in rows.values())
    return ", ".join(f"{counts[state]} {state}" for state in ("finished", "failed", "running", "waiting") if counts[state])


def _print_skipped(console: Console, plan: Plan) -> None:
    for skipped in plan.skipped:
        print_line(console, f"skipped: {describe(skipped.assignment)}: {skipped.reason}")
