"""Writes pages that compare: several runs, or the trials of a sweep, with a link to the page of each."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import quote

from rosd_kit.files import explain_write_errors, write_atomically
from rosd_kit.report.comparison import ComparedRun, Pairing, comparison
from rosd_kit.report.page import markup, packed_data, write_report
from rosd_kit.report.reading import Record, Warn, silent
from rosd_kit.report.sweep_comparison import read_trials, sweep_comparison

SCRIPTS = ("text.js", "data.js", "saving.js", "charts.js", "forest.js", "comparison_data.js", "comparison.js")
_SOURCES = ("recipe.yaml", "metrics.jsonl", "evaluations.jsonl")


def write_comparison(paired: Sequence[Pairing], out: Path | None = None, warn: Warn = silent) -> Path:
    """Write the page that compares these runs and return its path: by default `comparison.html` beside the first run.

    Raises `RunError` if the file cannot be written.
    """
    runs = [each.run for each in paired]
    file = out or runs[0].records.folder.resolve().parent / "comparison.html"
    return _write(file, comparison(paired, _links(runs, file.resolve().parent, warn)))


def write_sweep_report(folder: Path, out: Path | None = None, plan: str | None = None, warn: Warn = silent) -> Path:
    """Write the page of a sweep and return its path: by default `report.html` in its folder.

    Raises `RunError` when no trial is finished yet, or the file cannot be written.
    """
    trials = read_trials(folder, plan, warn)
    file = out or folder / "report.html"
    return _write(file, sweep_comparison(folder, trials, _links(trials, file.resolve().parent, warn), plan))


def _write(file: Path, data: Record) -> Path:
    with explain_write_errors(f"report: {str(file)!r}", "Choose another --out."):
        write_atomically(file, _fragments(data))
    return file


def _fragments(data: Record) -> Iterator[str]:
    before, after = markup(data["title"], template="comparison.html", scripts=SCRIPTS)
    yield before
    yield packed_data("comparison", data)
    yield after


def _links(runs: Sequence[ComparedRun], beside: Path, warn: Warn) -> dict[str, str]:
    """Write each run's own page where it is missing or older than the run, and return its address from a folder, by name."""
    links = {}
    for run in runs:
        page = run.records.folder / "report.html"
        if not page.is_file() or any(_changed(run.records.folder / name) > _changed(page) for name in _SOURCES):
            write_report(run.records.folder, warn=warn)
        links[run.name] = quote(Path(os.path.relpath(page.resolve(), beside)).as_posix())
    return links


def _changed(file: Path) -> float:
    return file.stat().st_mtime if file.is_file() else 0.0
