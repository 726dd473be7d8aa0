"""The plugin API through time, with a plugin that was written for an older version than the present one."""

from __future__ import annotations

import sys
import warnings

import pytest

import rosd_kit
from rosd_kit import renames, version
from rosd_kit.cli import main
from rosd_kit.plugins.manager import PluginManager
from rosd_kit.recipe import build_components, load_recipe
from rosd_kit.renames import Renamed
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
    monkeypatch.setattr(renames, "OLDEST_API", 1)
    for table, old, new in (
        (renames.NAMES, "rosd_kit.Marker", "rosd_kit.Localizer"),
        (renames.HOOKS, "rosd_kit_step", "rosd_kit_step_end"),
        (renames.METHODS.setdefault("localizer", {}), "mark", "locate"),
    ):
        monkeypatch.setitem(table, old, Renamed(old=old, new=new, since=2, until=4))


def test_a_plugin_for_an_older_version_works_with_a_warning(version_2, install):
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
    messages = {str(w.message) for w in caught if issubclass(w.category, DeprecationWarning)}
    assert any("write rosd_kit.Localizer" in text and "until API 4" in text for text in messages)
    (report,) = [report for report in manager.reports if report.name == "old_kit"]
    notes = "\n".join(report.notes)
    for part in (
        "written for rosd_kit_api 1, and this is 2",
        "rosd_kit_step is called rosd_kit_step_end",
        "mark is called locate",
    ):
        assert part in notes


def test_a_version_that_is_no_longer_taken_is_refused(version_2, install, monkeypatch):
    monkeypatch.setattr(renames, "OLDEST_API", 2)
    install("old_kit", OLD)
    assert "it was written for rosd_kit_api 1, and this is 2; install a newer version" in PluginManager().broken[0].reason


def test_a_plugin_that_says_no_version_gets_the_old_names_too(version_2, install):
    install("old_kit", OLD.replace("rosd_kit_api = 1\n", ""))
    with pytest.warns(DeprecationWarning):
        assert not PluginManager().broken


def test_a_name_that_never_was_is_an_attribute_error(version_2):
    with pytest.raises(AttributeError, match="Mrker"):
        _ = rosd_kit.Mrker


#: A plugin for API 1 as it was written then.
WRITTEN_FOR_1 = """
import rosd_kit as rk
from rosd_kit import Expert, fit
from rosd_kit.train.student import Student

rosd_kit_api = 1
seen = []

class Hint(rk.Context):
    "Tells the teacher the solution."
    name = "old_hint"
    provides = frozenset({"teacher_prompt"})
    def prompts(self, case):
        hint = rk.Section(text="The solution is " + str(case.problem.answer), keep=1)
        task = rk.Section(text=case.problem.messages[-1]["content"], keep=0)
        seen.extend([hint.keep, task.keep])
        prompt = rk.Prompt(head=(), sections=(task, hint))
        seen.append(fit(prompt, lambda messages: 1, 10).fits)
        return {"hint": prompt}

@rk.hookimpl
def rosd_kit_components():
    return [Hint]
"""


def test_a_plugin_written_for_api_1_loads_and_works_and_every_old_name_in_it_is_reported(install, forget_old_modules):
    install("old_names", WRITTEN_FOR_1)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        manager = PluginManager()
        recipe = load_recipe("rosd", ["context=old_hint"], registry=manager.registry)
        assert not manager.broken
        module = sys.modules["old_names_module"]
        prompt = build_components(recipe, manager.registry).context.prompts(fake_case())["hint"]
    assert module.seen == [1, 0, True]
    assert [section.cut_priority for section in prompt.sections] == [None, 1]
    assert (module.Expert, module.fit) == (rosd_kit.TeacherModel, rosd_kit.fit_prompt)
    assert module.Student is rosd_kit.Student
    messages = {str(w.message) for w in caught if w.category is renames.RenamedWarning}
    for advice in (
        "write rosd_kit.TeacherModel.",
        "write rosd_kit.fit_prompt.",
        "write rosd_kit.model.student.",
        "write rosd_kit.Section.cut_priority, and None for 0.",
    ):
        assert any(advice in text for text in messages), advice
    assert {w.filename for w in caught if w.category is renames.RenamedWarning} == {module.__file__}


def test_the_command_line_shows_each_use_of_an_old_name_once(tmp_path, capsys, forget_old_modules):
    file = tmp_path / "old_file.py"
    file.write_text(WRITTEN_FOR_1)
    with pytest.raises(SystemExit) as ended:
        main(["show", "rosd", "sampling.lookahead=1", "--plugin", str(file)])
    assert ended.value.code == 0
    shown = capsys.readouterr()
    assert "  prefetch: 1 " in shown.out
    warned = [line for line in shown.err.splitlines() if " is called " in line]
    assert len(warned) == len(set(warned)) == 4
    assert f"warning: {file}:3: {renames.NAMES['rosd_kit.Expert']}" in warned
    assert f"warning: command line: {renames.OPTIONS['sampling.lookahead']}" in warned


def test_an_old_name_lasts_at_least_two_versions():
    """What is in the tables now keeps the promise of the module's docstring."""
    tables = [renames.MODULES, renames.NAMES, renames.FIELDS, renames.OPTIONS, renames.METRICS, renames.HOOKS]
    entries = [entry for table in (*tables, *renames.METHODS.values()) for entry in table.values()]
    assert all(entry.until >= entry.since + 2 and entry.until > rosd_kit.API_VERSION for entry in entries)
    assert 1 <= renames.OLDEST_API <= rosd_kit.API_VERSION
