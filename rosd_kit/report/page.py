"""Builds the report as one self-contained page: markup, style and script from `page/`, and a run's compressed data.

Data is base64-encoded gzip, so no text of a rollout appears in the markup. The page's content security policy allows exactly
this style and this script, and no requests, except to the server of a live report.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import html
import json
import re
from collections.abc import Iterator, Sequence
from functools import partial
from importlib.resources import files
from pathlib import Path

from rosd_kit.files import explain_write_errors, finite, write_atomically
from rosd_kit.report.packing import detail, overview, row
from rosd_kit.report.reading import RunRecords, Warn, records, sample_files, silent

SCRIPTS = ("text.js", "data.js", "saving.js", "charts.js", "overview.js", "rollouts.js", "main.js")


def write_report(folder: Path, out: Path | None = None, warn: Warn = silent) -> Path:
    """Write a run's report atomically and return its path; the default is `report.html` in the run's folder.

    `warn` is told which lines of which file are damaged and left out. Raises `RunError` if `folder` is not a run folder or the
    file cannot be written.
    """
    run = RunRecords.read(folder, warn)
    file = out or folder / "report.html"
    with explain_write_errors(f"report: {str(file)!r}", "Choose another --out."):
        write_atomically(file, _fragments(run, warn))
    return file


def live_page(name: str) -> str:
    """Return the page that requests its data from the server."""
    before, after = markup(name, live=True)
    return before + after


def compact(value: object) -> bytes:
    """Return plain values as JSON without spaces; NaN and infinity become null."""
    return json.dumps(finite(value), separators=(",", ":")).encode()


def _fragments(run: RunRecords, warn: Warn) -> Iterator[str]:
    """Yield the file in fragments, holding the rollouts of one step at a time in memory."""
    before, after = markup(run.folder.resolve().name)
    yield before
    yield packed_data("overview", overview(run))
    rows = []
    for number, file in enumerate(sample_files(run.folder)):
        samples = records(file, warn)
        rows.append({"step": samples[0]["step"] if samples else 0, "rows": [row(record) for record in samples]})
        yield packed_data(f"details-{number}", [detail(record) for record in samples])
    yield packed_data("rows", rows)
    yield after


def packed_data(name: str, value: object) -> str:
    """Return plain values as an element of the page, compressed, for the script to unpack by this name."""
    packed = base64.b64encode(gzip.compress(compact(value), compresslevel=6, mtime=0)).decode()
    return f'<script type="application/octet-stream" id="{name}">{packed}</script>\n'


def markup(name: str, *, live: bool = False, template: str = "page.html", scripts: Sequence[str] = SCRIPTS) -> tuple[str, str]:
    """Return the markup of a page before and after its data."""
    source = files("rosd_kit.report") / "page"
    style = (source / "style.css").read_text(encoding="utf-8")
    script = "".join((source / file).read_text(encoding="utf-8") for file in scripts)
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
    head, body = ((source / file).read_text(encoding="utf-8") for file in ("head.html", template))
    before, after = body.replace("@HEAD@\n", head).split("@DATA@")
    values |= {"@SCRIPT@": script}
    fill = partial(re.sub, "@[A-Z]+@", lambda match: values[match[0]])
    return fill(before), fill(after)


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
