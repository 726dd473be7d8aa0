"""Plugins as users have them: installed distributions and single files, some of them broken."""

from __future__ import annotations

import pytest

from rosd_kit.errors import PluginError, RecipeError
from rosd_kit.plugins.manager import VARIABLE, PluginManager
from rosd_kit.recipe import load_recipe
from tests.plugins.conftest import GOOD

BROKEN = {
    "import": ("import no_such_module_anywhere", "No module named 'no_such_module_anywhere'"),
    "syntax": ("def broken(:", "SyntaxError"),
    "exit": ("raise SystemExit(3)", "SystemExit"),
    "misspelt hook": (GOOD.replace("rosd_kit_components", "rosd_kit_component"), "Did you mean 'rosd_kit_components'?"),
    "unmarked hook": (GOOD.replace("@rk.hookimpl", ""), "write @rosd_kit.hookimpl above it"),
    "no hook": ("x = 1", "it implements no hook"),
    "wrong argument": ("import rosd_kit as rk\n@rk.hookimpl\ndef rosd_kit_components(oops): return []", "oops"),
    "wrong base": (GOOD.replace("rk.Localizer", "object"), "not a component class"),
    "instance": (GOOD.replace("[Everywhere]", "[Everywhere()]"), "return classes, not instances"),
    "abstract": (GOOD.replace("def locate", "def find"), "does not implement locate"),
    "bad name": (GOOD.replace('"everywhere"', '"Every Where"'), "lower-case letters"),
    "collision": (GOOD.replace('"everywhere"', '"full"'), "is taken by builtin"),
    "not a list": (GOOD.replace("[Everywhere]", "None"), "must return a list of classes"),
    "raises": (GOOD.replace("return [Everywhere]", "raise ValueError('boom')"), "ValueError: boom"),
    "exits later": (GOOD.replace("return [Everywhere]", "raise SystemExit(3)"), "SystemExit"),
    "newer api": (GOOD + "\nrosd_kit_api = 999", "rosd_kit_api 999, and this is 2; upgrade rosd-kit"),
    "older api": (GOOD + "\nrosd_kit_api = 0", "install a newer version of the plugin"),
    "odd api": (GOOD + "\nrosd_kit_api = '1'", "must be a whole number"),
}


def rosd(registry, *changes):
    return load_recipe("rosd", changes, registry=registry)


def test_an_installed_plugin_fills_a_slot_and_is_named_with_its_origin(install):
    install("everywhere_kit", GOOD)
    manager = PluginManager()
    assert rosd(manager.registry, "localizer=everywhere").localizer.name == "everywhere"
    report = next(r for r in manager.reports if r.name == "everywhere_kit")
    assert (report.distribution, report.version, report.status) == ("everywhere_kit", "1.2.3", "ok")
    assert report.brings == ("localizer everywhere",)
    assert "everywhere_kit_module" in report.file


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_plugin_is_named_and_skipped_and_others_go_on(install, kind):
    source, message = BROKEN[kind]
    install("bad_kit", source)
    install("good_kit", GOOD)
    manager = PluginManager()
    assert rosd(manager.registry, "localizer=everywhere").localizer.name == "everywhere"
    (report,) = manager.broken
    assert (report.distribution, report.version) == ("bad_kit", "1.2.3")
    assert message in report.reason
    assert "bad_kit_module" in report.file


def test_a_broken_plugin_is_fatal_only_for_a_recipe_that_needs_it(install):
    install("bad_kit", "import no_such_module_anywhere")
    registry = PluginManager().registry
    assert rosd(registry).localizer.name == "error_quote"
    with pytest.raises(RecipeError) as caught:
        rosd(registry, "localizer=everywhere")
    for part in ("localizer", "'everywhere'", "bad_kit 1.2.3", "no_such_module_anywhere", "rosd-kit components localizer"):
        assert part in str(caught.value)


def test_two_plugins_with_the_same_component_name_are_both_named(install):
    install("a_kit", GOOD)
    install("b_kit", GOOD)
    manager = PluginManager()
    assert manager.registry.entry("localizer", "everywhere").origin.distribution == "a_kit"
    (report,) = manager.broken
    assert report.distribution == "b_kit" and "taken by a_kit (a_kit 1.2.3" in report.reason


def test_the_environment_chooses_among_plugins(install):
    install("a_kit", GOOD)
    install("b_kit", "import no_such_module_anywhere")
    manager = PluginManager(selection="-b_kit")
    assert not manager.broken
    assert [(r.name, r.status) for r in manager.reports][2:] == [("a_kit", "ok"), ("b_kit", "denied")]
    unknown = next(report for report in PluginManager(selection="-c_kit").broken if report.name == "c_kit")
    assert VARIABLE in unknown.reason and "Did you mean" in unknown.reason


def test_a_plugin_file_fills_a_slot(tmp_path):
    file = tmp_path / "everywhere.py"
    file.write_text(GOOD)
    assert rosd(PluginManager([file]).registry, "localizer=everywhere").localizer.name == "everywhere"


def test_files_of_one_name_in_two_folders_are_two_plugins(tmp_path):
    files = []
    for folder, name in (("a", "everywhere"), ("b", "nowhere")):
        (tmp_path / folder).mkdir()
        files.append(tmp_path / folder / "part.py")
        files[-1].write_text(GOOD.replace('"everywhere"', f'"{name}"'))
    assert {"everywhere", "nowhere"} <= set(PluginManager(files).registry.names("localizer"))


def test_a_file_that_does_not_exist_is_an_error_at_once(tmp_path):
    with pytest.raises(PluginError, match=r"--plugin: no file '.*missing\.py'"):
        PluginManager([tmp_path / "missing.py"])


def test_an_observer_that_raises_is_named_and_stops_nobody(tmp_path):
    file = tmp_path / "observer.py"
    file.write_text("import rosd_kit as rk\n@rk.hookimpl\ndef rosd_kit_run_start(run): raise ValueError('boom')")
    manager = PluginManager([file], selection="-trackers")
    (message,) = manager.notify("rosd_kit_run_start", run=None)
    assert "observer" in message and "boom" in message and str(file) in message
