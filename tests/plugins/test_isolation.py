"""Plugins that are slow, hang, or hide among others: named, and no harm to the rest."""

from __future__ import annotations

import signal
import sys

import pytest

from rosd_kit.cli import main
from rosd_kit.errors import PluginError, RecipeError
from rosd_kit.plugins import manager as plugin_manager
from rosd_kit.plugins import timed_import
from rosd_kit.plugins.fingerprint import code_files, fingerprint
from rosd_kit.plugins.manager import VARIABLE, PluginManager
from rosd_kit.plugins.timed_import import DEADLINE_VARIABLE
from rosd_kit.recipe import load_recipe


def report_of(manager, name):
    return next(report for report in manager.reports if report.name == name)


def test_an_import_that_hangs_is_given_up_and_others_go_on(install, good, monkeypatch):
    monkeypatch.setenv(DEADLINE_VARIABLE, "0.3")
    install("a_hanging_kit", "import time\nwhile True: time.sleep(0.01)")
    install("good_kit", good)
    left_before = signal.getitimer(signal.ITIMER_REAL)[0]
    manager = PluginManager()
    (report,) = manager.broken
    assert report.name == "a_hanging_kit" and "given up after 0.3 s" in report.reason and DEADLINE_VARIABLE in report.reason
    assert "everywhere" in manager.registry.names("localizer")
    left = signal.getitimer(signal.ITIMER_REAL)[0]
    assert (left_before == 0) == (left == 0), "an alarm that was set before must go on"


def test_components_that_never_come_are_given_up_too(install, good, monkeypatch):
    monkeypatch.setenv(DEADLINE_VARIABLE, "0.3")
    install("hanging_kit", good.replace("return [Everywhere]", "import time\n    while True: time.sleep(0.01)"))
    manager = PluginManager()
    assert "everywhere" not in manager.registry.names("localizer")
    assert "given up after 0.3 s" in manager.broken[0].reason


@pytest.mark.parametrize("wrong", ["soon", "1 minute"])
def test_a_deadline_that_is_no_number_is_an_error(install, good, monkeypatch, wrong):
    monkeypatch.setenv(DEADLINE_VARIABLE, wrong)
    install("good_kit", good)
    assert f"{DEADLINE_VARIABLE}={wrong!r} is not a number of seconds" in PluginManager().broken[0].reason


def test_a_slow_import_is_named_with_its_time(install, good, monkeypatch, capsys):
    monkeypatch.setattr(plugin_manager, "SLOW", 0.2)
    install("a_kit", "import time\ntime.sleep(0.3)\n" + good)
    manager = PluginManager()
    assert [report.name for report in manager.slow] == ["a_kit"]
    assert report_of(manager, "a_kit").seconds >= 0.3
    del sys.modules["a_kit_module"]
    with pytest.raises(SystemExit):
        main(["components", "localizer", "everywhere"])
    assert "a_kit" in capsys.readouterr().err.split("is slow: its import took")[0]


def test_an_earlier_alarm_continues(monkeypatch):
    heard = []
    handler = signal.signal(signal.SIGALRM, lambda *_: heard.append("alarm"))
    left, every = signal.setitimer(signal.ITIMER_REAL, 0.05)
    try:
        assert timed_import.timed(lambda: "done")[0] == "done"
        while not heard:
            signal.pause()
    finally:
        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, left, every)
    assert heard == ["alarm"]


@pytest.mark.parametrize("selection", ["-a_kit", "-A-Kit", "builtin", "other_kit"])
def test_a_plugin_that_was_left_out_is_named_where_a_recipe_needs_it(install, good, selection):
    install("a_kit", good)
    install("other_kit", good.replace('"everywhere"', '"elsewhere"'))
    manager = PluginManager(selection=selection)
    with pytest.raises(RecipeError) as caught:
        load_recipe("rosd", ["localizer=everywhere"], registry=manager.registry)
    assert "a_kit" in str(caught.value) and f"left out by {VARIABLE}={selection}" in str(caught.value)


def test_the_built_in_plugin_cannot_be_left_out():
    with pytest.raises(PluginError, match="'builtin' cannot be left out"):
        PluginManager(selection="-builtin")


def test_the_built_in_observer_can_be_left_out():
    manager = PluginManager(selection="-trackers")
    assert report_of(manager, "trackers").status == "denied"
    assert manager.notify("rosd_kit_step_end", run=None, step=1, metrics={}, samples=None) == ()


def test_an_api_version_that_is_no_number_is_refused(install, good):
    install("bad_kit", good + '\nrosd_kit_api = "1"')
    assert "must be a whole number" in PluginManager().broken[0].reason


def test_the_fingerprint_is_of_all_files_of_a_package(tmp_path):
    package = tmp_path / "some_kit"
    (package / "deep").mkdir(parents=True)
    for name, text in {"__init__.py": "", "plugin.py": "x = 1", "deep/__init__.py": "", "deep/table.json": "{}"}.items():
        (package / name).write_text(text)
    (tmp_path / "neighbour.py").write_text("y = 2")
    entry = str(package / "deep/__init__.py")
    assert {path.name for path in code_files(entry)} == {"__init__.py", "plugin.py", "table.json"}
    before = fingerprint(entry)
    assert before == fingerprint(str(package / "plugin.py")) and len(before) == 12
    (package / "__pycache__").mkdir()
    (package / "__pycache__/plugin.pyc").write_bytes(b"compiled")
    (tmp_path / "neighbour.py").write_text("y = 3")
    assert fingerprint(entry) == before
    (package / "deep/table.json").write_text("{} ")
    assert fingerprint(entry) != before
    assert fingerprint(str(tmp_path / "neighbour.py")) not in ("", before)
    assert fingerprint(str(tmp_path / "gone.py")) == "" == fingerprint("-")
