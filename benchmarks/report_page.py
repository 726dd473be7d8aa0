"""Benchmarks the report of a run with many rollouts: `python benchmarks/report_page.py runs/rosd-1 --rollouts 10000`

Repeats the run's samples at later steps until there are enough. Needs Chromium and `rosd-kit[browser]`. Prints one JSON object:
seconds to write, megabytes, and milliseconds to load the page, to show a rollout, to filter, and to search all texts.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from itertools import cycle
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from rosd_kit.report.page import write_report
from rosd_kit.report.reading import records, sample_files


def enlarge(run: Path, folder: Path, rollouts: int) -> int:
    """Copy a run to `folder` and repeat its samples at later steps; return the number of rollouts."""
    (folder / "samples").mkdir(parents=True)
    for name in ("recipe.yaml", "environment.json", "metrics.jsonl", "evaluations.jsonl"):
        if (run / name).is_file():
            shutil.copy(run / name, folder / name)
    written = 0
    for step, file in enumerate(cycle(sample_files(run)), start=1):
        if written >= rollouts:
            return written
        samples = [record | {"step": step} for record in records(file)]
        written += len(samples)
        text = "".join(json.dumps(sample) + "\n" for sample in samples)
        (folder / f"samples/step-{step:06d}.jsonl").write_text(text)
    return written


def timed(page: Page, act: Callable[[], object]) -> float:
    """Return the milliseconds from an action until the page has drawn its result."""
    start = time.perf_counter()
    act()
    page.evaluate("new Promise((done) => requestAnimationFrame(() => setTimeout(done)))")
    return 1000 * (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--rollouts", type=int, default=10_000)
    args = parser.parse_args()
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    with tempfile.TemporaryDirectory() as scratch, sync_playwright() as driver:
        count = enlarge(args.run, Path(scratch) / "run", args.rollouts)
        start = time.perf_counter()
        file = write_report(Path(scratch) / "run")
        written = time.perf_counter() - start
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        start = time.perf_counter()
        page.goto(file.as_uri())
        page.wait_for_selector("html[data-ready]", state="attached")
        ready = 1000 * (time.perf_counter() - start)
        page.click("#tab-rollouts")
        page.wait_for_selector("#tokens")
        page.focus("#list")
        shown = [timed(page, lambda: page.keyboard.press("PageDown")) for _ in range(30)]
        filtered = timed(page, lambda: page.select_option("#by-outcome", index=1))
        page.select_option("#by-outcome", index=0)
        start = time.perf_counter()
        page.fill("#by-text", "no such words")
        page.locator("#matches", has_text="0 of").wait_for()
        searched = 1000 * (time.perf_counter() - start)
        heap = page.evaluate("performance.memory.usedJSHeapSize") / 1e6
        browser.close()
        figures = {
            "rollouts": count,
            "write_s": written,
            "file_mb": file.stat().st_size / 1e6,
            "ready_ms": ready,
            "show_ms": statistics.median(shown),
            "filter_ms": filtered,
            "search_ms": searched,
            "heap_mb": heap,
        }
        print(json.dumps({name: round(value, 1) for name, value in figures.items()}))


if __name__ == "__main__":
    main()
