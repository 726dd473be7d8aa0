"""The command that shows a run, as a file or on a live page."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from rosd_kit.errors import RunError


def report(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run's folder, finished or not.")],
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Where to write. Default: RUN/report.html")] = None,
    live: Annotated[bool, typer.Option("--live", help="Serve a live page on this machine.")] = False,
    port: Annotated[int, typer.Option(min=0, max=65535, help="With --live: the port; 0 takes any.")] = 0,
) -> None:
    """Show a run as one page: curves, the localizer against the oracle, every rollout.

    The file needs no network and no other file. With --live nothing is written, and only this machine can read the page.
    """
    from rosd_kit.display.text import sanitize
    from rosd_kit.report.live import LiveServer
    from rosd_kit.report.page import write_report

    if not live:
        file = write_report(run, out, lambda text: print(f"warning: {sanitize(text)}", file=sys.stderr))
        print(f"{file}: {file.stat().st_size / 1e6:.1f} MB, opens in any browser")
        return
    if out is not None:
        raise RunError("report: --live writes no file. Leave out --out, or --live.")
    server = LiveServer(run, port)
    print(f"{server.address}\nends with ctrl-c; only this machine can open it", flush=True)
    try:
        server.serve()
    except KeyboardInterrupt:
        print("ended")
    finally:
        server.server.server_close()
