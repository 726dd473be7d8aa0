"""Fixtures: runs to report, and a real browser."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.report.run_writer import RunWriter

WAIT = 60_000


@pytest.fixture(scope="session")
def new_run(tmp_path_factory) -> Callable[[str], RunWriter]:
    return lambda name="run": RunWriter(tmp_path_factory.mktemp("runs") / name)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Start a headless Chromium; ROSD_KIT_CHROMIUM may name one that is not on the PATH.

    Not for the whole session: while it is open, an event loop runs in this thread, and no other test can start one.
    """
    api = pytest.importorskip("playwright.sync_api", reason='needs playwright: pip install "rosd-kit[browser]"')
    names = (os.environ.get("ROSD_KIT_CHROMIUM", ""), "chromium", "chromium-browser", "google-chrome")
    path = next((file for name in names if name and (file := shutil.which(name))), None)
    if path is None:
        pytest.skip("needs Chromium on the PATH, or its path in ROSD_KIT_CHROMIUM")
    with api.sync_playwright() as driver:
        options = ["--no-sandbox", "--disable-dev-shm-usage"] if os.geteuid() == 0 else []
        chromium = driver.chromium.launch(executable_path=path, args=options, timeout=WAIT)
        yield chromium
        chromium.close()


@pytest.fixture
def open_page(browser) -> Iterator[Callable[..., Any]]:
    """Return a function that opens a report's file or address; `page.requests` and `page.errors` record what happened."""
    pages = []

    def open_page(address: str | Path, **options: Any) -> Any:
        page = browser.new_page(**{"viewport": {"width": 1280, "height": 900}, **options})
        page.set_default_timeout(WAIT)
        pages.append(page)
        page.requests, page.errors = [], []
        page.on("request", lambda request: page.requests.append(request.url))
        page.on("pageerror", lambda error: page.errors.append(str(error)))
        page.on("console", lambda message: page.errors.append(message.text) if message.type == "error" else None)
        page.on("dialog", lambda dialog: (page.errors.append("dialog"), dialog.dismiss()))
        page.goto(address.as_uri() if isinstance(address, Path) else address)
        page.wait_for_selector("html[data-ready]", state="attached")
        return page

    yield open_page
    for page in pages:
        page.close()
