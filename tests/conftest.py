"""Fixtures and hooks for the whole suite: golden files, working interrupts, and one worker per core."""

from __future__ import annotations

import gc
import math
import os
import signal
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

import rosd_kit
from rosd_kit.plugins import manager as plugin_manager
from rosd_kit.renames import MODULES

if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported: the workers share the cores

# The machine may be busy; pytest-timeout ends what hangs.
settings.register_profile("rosd-kit", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("rosd-kit")

GOLDEN = Path(__file__).parent / "golden"
LONG = {"parallel", "faults", "run", "docs"}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="write tests/golden/ anew instead of comparing")


def pytest_configure(config: pytest.Config) -> None:
    """Let SIGINT interrupt, keep what tests trust out of the user's own folders, and collect no garbage while importing.

    A shell starts background jobs with SIGINT ignored, and the processes that tests start would inherit that.
    """
    gc.disable()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    home = tempfile.TemporaryDirectory(prefix="rosd-kit-tests-")
    config.add_cleanup(home.cleanup)
    os.environ |= {"XDG_CONFIG_HOME": f"{home.name}/config", "XDG_STATE_HOME": f"{home.name}/state"}
    plugin_manager.SLOW = math.inf  # on a busy machine, any plugin's import may be slow enough for a warning


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    """Use all cores for the whole suite. A few files named on the command line finish before workers would have started."""
    return None if config.args_source is not pytest.Config.ArgsSource.ARGS else 0


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the folders whose files take longest, so that all workers end at about the same time."""
    items.sort(key=lambda item: not LONG & set(item.path.relative_to(GOLDEN.parent).parts))


def pytest_collection_finish(session: pytest.Session) -> None:
    """Keep what the tests' modules imported out of garbage collections, each of which would take a fifth of a second.

    Later imports make whole collections slow again, so they are rare.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(700, 10, 100)
    gc.enable()


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Let go of what was kept: extension modules would report it as leaked."""
    gc.unfreeze()


@pytest.fixture
def forget_old_modules():
    """Remove modules that the test imported by old names: `rosd_kit.train` must be a function again afterwards."""
    yield
    for name in [name for name in sys.modules if name in MODULES]:
        module = sys.modules.pop(name)
        if vars(rosd_kit).get(name.removeprefix("rosd_kit.")) is module:
            delattr(rosd_kit, name.removeprefix("rosd_kit."))


@pytest.fixture
def golden(request):
    """Compare a text with the golden file of this name, or write it with --update-golden."""

    def check(name: str, text: str) -> None:
        file = GOLDEN / name
        if request.config.getoption("--update-golden"):
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        assert file.is_file(), f"{file.name} is missing; write it with: pytest --update-golden"
        assert text == file.read_text(), f"{file.name} has changed; if that is wanted: pytest --update-golden"

    return check
