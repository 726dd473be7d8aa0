"""Runs to report on, and a real browser to look at them with."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.report.writing import Writer

WAIT = 60_000


@pytest.fixture(scope="session")
def new_run(tmp_path_factory) -> Callable[[str], Writer]:
    return lambda name="run": Writer(tmp_path_factory.mktemp("runs") / name)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A headless Chromium; ROSD_KIT_CHROMIUM names one that is not on the path.

    For a module, not for the session: while it is open, an event loop runs in this thread, and no test can start another.
    """
    api = pytest.importorskip("playwright.sync_api", reason='needs playwright: pip install "rosd-kit[browser]"')
    names = (os.environ.get("ROSD_KIT_CHROMIUM", ""), "chromium", "chromium-browser", "google-chrome")
    path = next((found for name in names if name and (found := shutil.which(name))), None)
    if path is None:
        pytest.skip("needs Chromium on the path, or its place in ROSD_KIT_CHROMIUM")
    with api.sync_playwright() as driver:
        options = ["--no-sandbox", "--disable-dev-shm-usage"] if os.geteuid() == 0 else []
        chromium = driver.chromium.launch(executable_path=path, args=options, timeout=WAIT)
        yield chromium
        chromium.close()


@pytest.fixture
def look(browser) -> Iterator[Callable[..., Any]]:
    """Open a report's file or address; what the page asked for and what went wrong is on `page.asked` and `page.wrong`."""
    pages = []

    def look(address: str | Path, **options: Any) -> Any:
        page = browser.new_page(**{"viewport": {"width": 1280, "height": 900}, **options})
        page.set_default_timeout(WAIT)
        pages.append(page)
        page.asked, page.wrong = [], []
        page.on("request", lambda request: page.asked.append(request.url))
        page.on("pageerror", lambda error: page.wrong.append(str(error)))
        page.on("console", lambda message: page.wrong.append(message.text) if message.type == "error" else None)
        page.on("dialog", lambda dialog: (page.wrong.append("dialog"), dialog.dismiss()))
        page.goto(address.as_uri() if isinstance(address, Path) else address)
        page.wait_for_selector("html[data-ready]", state="attached")
        return page

    yield look
    for page in pages:
        page.close()
