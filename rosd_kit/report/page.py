"""One page that needs nothing else: markup, style and script of `page/`, and a run's data, compressed.

Data is gzip in base64, so that no text of a rollout stands in the markup; the page's policy lets exactly this style and
this script run, and nothing be fetched but, while a run is served, from that server.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import html
import json
import re
from collections.abc import Iterator
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Any

from rosd_kit.files import explain_write_errors, finite, write_atomically
from rosd_kit.report.packing import detail, overview, row
from rosd_kit.report.reading import RunRecords, records, sample_files

SCRIPTS = ("text.js", "data.js", "charts.js", "overview.js", "rollouts.js", "main.js")


def write_report(folder: Path, out: Path | None = None) -> Path:
    """Write a run's report, whole or not at all, and return its path: `report.html` in the run's folder unless given.

    Raises `RunError` when there is no run, or the file cannot be written.
    """
    run = RunRecords.read(folder)
    file = out or folder / "report.html"
    with explain_write_errors(f"report: {str(file)!r}", "Choose another --out."):
        write_atomically(file, _pieces(run))
    return file


def live_page(name: str) -> str:
    """Return the page that asks its server for the data."""
    before, after = _markup(name, live=True)
    return before + after


def compact(value: Any) -> bytes:
    """Return plain values as JSON without spaces; NaN and infinity are null."""
    return json.dumps(finite(value), separators=(",", ":")).encode()


def _pieces(run: RunRecords) -> Iterator[str]:
    """Yield the file piece by piece, one step's rollouts at a time."""
    before, after = _markup(run.folder.resolve().name, live=False)
    yield before
    yield _data("overview", overview(run))
    rows = []
    for number, file in enumerate(sample_files(run.folder)):
        found = records(file)
        rows.append({"step": found[0]["step"] if found else 0, "rows": [row(record) for record in found]})
        yield _data(f"details-{number}", [detail(record) for record in found])
    yield _data("rows", rows)
    yield after


def _data(name: str, value: Any) -> str:
    packed = base64.b64encode(gzip.compress(compact(value), compresslevel=6, mtime=0)).decode()
    return f'<script type="application/octet-stream" id="{name}">{packed}</script>\n'


def _markup(name: str, *, live: bool) -> tuple[str, str]:
    """Return what stands before and after the data."""
    source = files("rosd_kit.report") / "page"
    style = (source / "style.css").read_text(encoding="utf-8")
    script = "".join((source / file).read_text(encoding="utf-8") for file in SCRIPTS)
    policy = "; ".join(
        (
            "default-src 'none'",
            f"script-src '{_hash(script)}'",
            f"style-src '{_hash(style)}'",
            "img-src data:",
            "connect-src 'self'" if live else "connect-src 'none'",
            "base-uri 'none'",
            "form-action 'none'",
        )
    )
    values = {"@POLICY@": policy, "@TITLE@": html.escape(name), "@LIVE@": "live" if live else "file", "@STYLE@": style}
    before, after = (source / "page.html").read_text(encoding="utf-8").split("@DATA@")
    values |= {"@SCRIPT@": script}
    fill = partial(re.sub, "@[A-Z]+@", lambda found: values[found[0]])
    return fill(before), fill(after)


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
