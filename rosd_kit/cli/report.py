"""The command that shows runs, as a file or on a live page: one run, several side by side, or the trials of a sweep."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from rosd_kit.cli import completion
from rosd_kit.errors import RunError

#: The longest text in a column of the table of options; the page shows all of it.
_WIDEST = 32


def report(
    runs: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN",
            help="A run's folder, finished or not; several to compare; or a sweep's.",
            autocompletion=completion.runs_and_sweeps,
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Where to write. Default: RUN/report.html, or comparison.html beside the first run."),
    ] = None,
    live: Annotated[bool, typer.Option("--live", help="Serve a live page of one run on this machine.")] = False,
    port: Annotated[int, typer.Option(min=0, max=65535, help="With --live: the port; 0 takes any.")] = 0,
    plan: Annotated[str | None, typer.Option(help="Of several sweeps in one folder, which. Default: the last.")] = None,
) -> None:
    """Show a run as one page: curves, the localizer against the oracle, every rollout.

    Several runs are shown side by side: any metric as curves, paired differences from the first run, and what the recipes
    differ in. A sweep's folder gives the same for its trials. The file needs no network and no other file. With --live
    nothing is written, and only this machine can read the page.
    """
    from rosd_kit.sweep.store import FILE

    sweeps = [run for run in runs if (run / FILE).is_file()]
    if len(runs) > 1 and sweeps:
        raise RunError(f"report: {str(sweeps[0])!r} is a sweep's folder. Give it alone, or give runs only.")
    if plan is not None and not sweeps:
        raise RunError("report: --plan is for a sweep's folder. Leave it out.")
    if live:
        _serve(runs, out, port, is_sweep=bool(sweeps))
    elif sweeps:
        _write_sweep(sweeps[0], out, plan)
    elif len(runs) > 1:
        _compare(runs, out)
    else:
        from rosd_kit.report.page import write_report

        _print_written(write_report(runs[0], out, _warn))


def _compare(runs: Sequence[Path], out: Path | None) -> None:
    """Print the differences of runs from the first, and write the page that shows them."""
    from rich.console import Console

    from rosd_kit.display import make_display
    from rosd_kit.display.plain import print_line
    from rosd_kit.report.comparison import notes, pairings, read_runs, recipe_differences
    from rosd_kit.report.comparison_page import write_comparison

    compared, console = read_runs(runs, _warn), Console(highlight=False)
    paired = pairings(compared)
    display = make_display(live=False, console=console)
    for each in paired[1:]:
        if each.comparisons:
            display.compared(each.run.name, compared[0].name, each.comparisons)
    for note in notes(paired):
        print_line(console, note)
    _print_options([run.name for run in compared], recipe_differences([run.records.recipe for run in compared]))
    _print_written(write_comparison(paired, out, _warn))


def _print_options(names: Sequence[str], options: Sequence[tuple[str, Sequence[str | None]]]) -> None:
    """Print a line per option that differs, with its value in each run; only count those that a component lacks."""
    from rosd_kit.display.text import sanitize

    print(f"\nThe recipes differ in {len(options)} option{'s' * (len(options) != 1)}" + (":" if options else "."))
    shared = [(path, [value for value in values if value is not None]) for path, values in options if None not in values]
    rows = [[sanitize(text) for text in row] for row in (("", *names), *((path, *values) for path, values in shared))]
    rows = [[text if len(text) <= _WIDEST else f"{text[: _WIDEST - 1]}…" for text in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows if shared else ():
        print("  " + "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())
    if count := len(options) - len(shared):
        print(f"  {'and ' * bool(shared)}{count} of components that not every run has; the page lists them")
    print()


def _write_sweep(folder: Path, out: Path | None, plan: str | None) -> None:
    from rosd_kit.report.comparison_page import write_sweep_report

    _print_written(write_sweep_report(folder, out, plan, _warn))
    print(f"the same numbers as text: rosd-kit sweep report {folder}")


def _serve(runs: Sequence[Path], out: Path | None, port: int, *, is_sweep: bool) -> None:
    from rosd_kit.report.live import LiveServer

    if out is not None:
        raise RunError("report: --live writes no file. Leave out --out, or --live.")
    if len(runs) > 1 or is_sweep:
        raise RunError("report: --live shows one run. Give one run's folder, or leave out --live.")
    server = LiveServer(runs[0], port)
    print(f"{server.address}\nends with ctrl-c; only this machine can open it", flush=True)
    try:
        server.serve()
    except KeyboardInterrupt:
        print("ended")
    finally:
        server.server.server_close()


def _warn(text: str) -> None:
    from rosd_kit.display.text import sanitize

    print(f"warning: {sanitize(text)}", file=sys.stderr)


def _print_written(file: Path) -> None:
    print(f"{file}: {file.stat().st_size / 1e6:.1f} MB, opens in any browser")
