"""The plugin API through time, with a plugin that was written for an older version than the present one."""

from __future__ import annotations

import sys
import warnings

import pytest

import rosd_kit
from rosd_kit import version
from rosd_kit.plugins import deprecations
from rosd_kit.plugins.deprecations import Renamed
from rosd_kit.plugins.manager import PluginManager
from rosd_kit.recipe import build_components, load_recipe
from rosd_kit.testing import fake_case

#: Version 1 as it might have been: another base class name, another method, another hook.
OLD = """
import rosd_kit as rk

rosd_kit_api = 1
heard = []

class Everywhere(rk.Marker):
    "Weights all tokens."
    name = "everywhere"
    def mark(self, case):
        return rk.TokenWeights(weights=(1.0,) * len(case.rollout.completion.token_ids), outcome="full")

@rk.hookimpl
def rosd_kit_components():
    return [Everywhere]

@rk.hookimpl
def rosd_kit_step(step):
    heard.append(step)
"""


@pytest.fixture
def version_2(monkeypatch):
    """The present API, had it been version 1 with other names before."""
    monkeypatch.setattr(version, "API_VERSION", 2)
    monkeypatch.setattr(deprecations, "OLDEST_API", 1)
    monkeypatch.setattr(deprecations, "NAMES", (Renamed(old="Marker", new="Localizer", since=2, until=4),))
    monkeypatch.setattr(deprecations, "HOOKS", (Renamed(old="rosd_kit_step", new="rosd_kit_step_end", since=2, until=4),))
    monkeypatch.setattr(deprecations, "METHODS", {"localizer": (Renamed(old="mark", new="locate", since=2, until=4),)})


def test_a_plugin_for_an_older_version_works_and_its_author_is_told(version_2, install):
    install("old_kit", OLD)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        manager = PluginManager()
        recipe = load_recipe("rosd", ["localizer=everywhere"], registry=manager.registry)
    assert not manager.broken
    localizer = build_components(recipe, manager.registry).localizer
    assert localizer.locate(fake_case()).outcome == "full"
    assert manager.notify("rosd_kit_step_end", run=None, step=7, metrics={}, samples=None) == ()
    assert sys.modules["old_kit_module"].heard == [7]
    told = {str(w.message) for w in caught if w.category is DeprecationWarning}
    assert any("write rosd_kit.Localizer" in text and "until API 4" in text for text in told)
    (report,) = [report for report in manager.reports if report.name == "old_kit"]
    notes = "\n".join(report.notes)
    for part in (
        "written for rosd_kit_api 1, and this is 2",
        "rosd_kit_step is called rosd_kit_step_end",
        "mark is called locate",
    ):
        assert part in notes


def test_a_version_that_is_no_longer_taken_is_refused(version_2, install, monkeypatch):
    monkeypatch.setattr(deprecations, "OLDEST_API", 2)
    install("old_kit", OLD)
    assert "it was written for rosd_kit_api 1, and this is 2; install a newer version" in PluginManager().broken[0].reason


def test_a_plugin_that_says_no_version_gets_the_old_names_too(version_2, install):
    install("old_kit", OLD.replace("rosd_kit_api = 1\n", ""))
    with pytest.warns(DeprecationWarning):
        assert not PluginManager().broken


def test_a_name_that_never_was_is_an_attribute_error(version_2):
    with pytest.raises(AttributeError, match="Mrker"):
        _ = rosd_kit.Mrker


def test_an_old_name_lasts_at_least_two_versions():
    """What is in the tables now keeps the promise of the module's docstring."""
    tables = [
        *deprecations.NAMES,
        *deprecations.HOOKS,
        *(renamed for some in deprecations.METHODS.values() for renamed in some),
    ]
    assert all(renamed.until >= renamed.since + 2 and renamed.until > rosd_kit.API_VERSION for renamed in tables)
    assert 1 <= deprecations.OLDEST_API <= rosd_kit.API_VERSION
