"""Takes the screenshot of a report: `python docs/pictures/report.py runs/rosd-1`. Needs Chromium and playwright."""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright

from rosd_kit.report.page import write_report


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch, sync_playwright() as driver:
        file = write_report(Path(sys.argv[1]), Path(scratch) / "report.html")
        browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1180, "height": 860}, color_scheme="light")
        page.goto(f"{file.as_uri()}#rollouts/1/0")
        page.wait_for_selector("#tokens")
        page.keyboard.press("2")
        page.hover("#tokens .quoted >> nth=-1")
        page.screenshot(path=Path(__file__).with_name("report.png"))
        browser.close()


if __name__ == "__main__":
    main()
