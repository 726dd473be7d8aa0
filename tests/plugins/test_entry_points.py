"""Entry points: what they may name, and what the command line reports when one fails."""

from __future__ import annotations

import inspect
import re
import sys
from pathlib import Path

import pytest

from rosd_kit.cli import main
from rosd_kit.plugins import hookspecs
from rosd_kit.plugins.manager import VARIABLE, PluginManager
from rosd_kit.plugins.validation import HOOKS
from rosd_kit.recipe import load_recipe


@pytest.fixture
def call(capsys):
    """Call `rosd-kit` with these words and return its exit code, output and errors."""

    def rosd_kit(*words: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as end:
            main(words)
        said = capsys.readouterr()
        return int(end.value.code or 0), said.out, said.err

    return rosd_kit


def report_of(manager, name):
    return next(report for report in manager.reports if report.name == name)


@pytest.mark.parametrize(
    ("source", "status"), [("{good}", "ok"), ("{good}\nraise ValueError('boom')", "broken"), ("(", "broken")]
)
def test_the_file_of_an_installed_plugin_is_listed_even_if_it_cannot_be_imported(install, good, tmp_path, source, status):
    install("some_kit", source.replace("{good}", good))
    report = report_of(PluginManager(), "some_kit")
    assert report.status == status
    assert Path(report.file) == tmp_path / "some_kit_module.py"


@pytest.mark.parametrize(
    ("points", "message"),
    [
        ("{name} = no_such_package.part", "No module named 'no_such_package'"),
        ("{name} = {name}_module:gone", "gone"),
        ("{name} = not a module", "not a module"),
        ("builtin = {name}_module", "'builtin' is already taken"),
    ],
)
def test_an_entry_point_that_leads_nowhere_is_named_and_skipped(install, good, points, message):
    install("bad_kit", good, points=points)
    manager = PluginManager()
    (report,) = manager.broken
    assert (report.distribution, report.version) == ("bad_kit", "1.2.3")
    assert message in f"{report.reason} {report.file}"
    assert load_recipe("rosd", registry=manager.registry).localizer.name == "error_quote"


def test_a_part_of_a_package_that_cannot_be_imported_is_named(install, tmp_path):
    (tmp_path / "ill_package").mkdir()
    (tmp_path / "ill_package/__init__.py").write_text("raise SystemExit('ill')")
    install("bad_kit", "", points="{name} = ill_package.part")
    (report,) = PluginManager().broken
    assert "SystemExit: ill" in report.reason and report.file == "ill_package.part"


def test_a_plugin_may_be_a_class_in_a_module(install, good):
    methods = "    @staticmethod\n    @rk.hookimpl\n    def rosd_kit_components(): return [Everywhere]"
    source = good.split("@rk.hookimpl")[0] + "class Plugin:\n" + methods
    install("class_kit", source, points="{name} = {name}_module:Plugin")
    assert "everywhere" in PluginManager().registry.names("localizer")


def test_one_distribution_may_bring_two_plugins_of_which_one_is_broken(install, good):
    install("two_kit", good, points="first = {name}_module\nsecond = gone_module")
    manager = PluginManager()
    assert [(report.name, report.status) for report in manager.reports][2:] == [("first", "ok"), ("second", "broken")]
    assert manager.registry.entry("localizer", "everywhere").origin.plugin == "first"


def test_a_collision_within_one_plugin_brings_nothing_of_it(install, good):
    twin = "class Twin(Everywhere): pass\n\n@rk.hookimpl"
    install("twin_kit", good.replace("@rk.hookimpl", twin).replace("[Everywhere]", "[Everywhere, Twin]"))
    manager = PluginManager()
    assert "everywhere" not in manager.registry.names("localizer")
    assert "give Twin another name" in manager.broken[0].reason


def test_only_the_plugins_that_the_environment_names_are_imported(install, good, monkeypatch):
    install("a_kit", good)
    install("b_kit", "raise SystemExit('imported')")
    monkeypatch.setenv(VARIABLE, "a_kit")
    statuses = {report.name: report.status for report in PluginManager().reports}
    assert statuses == {"builtin": "ok", "trackers": "ok", "a_kit": "ok", "b_kit": "denied"}
    assert "b_kit_module" not in sys.modules


def test_an_observer_hears_each_hook_with_the_arguments_that_it_asks_for(install):
    hook = "@rk.hookimpl\ndef rosd_kit_step_end(step, metrics): heard.append((step, metrics))"
    install("listening_kit", f"import rosd_kit as rk\nheard = []\n{hook}")
    manager = PluginManager()
    assert manager.notify("rosd_kit_step_end", run=None, step=3, metrics={"loss": 0.5}, samples=None) == ()
    assert sys.modules["listening_kit_module"].heard == [(3, {"loss": 0.5})]


def test_every_hook_is_described():
    assert len(HOOKS) >= 5
    for hook in HOOKS:
        assert inspect.getdoc(getattr(hookspecs, hook)), hook


def test_the_command_line_warns_of_a_broken_plugin_and_continues(install, good, call):
    install("bad_kit", good.replace("rosd_kit_components", "rosd_kit_component"))
    code, out, errors = call("show", "rosd")
    assert code == 0 and "error_quote" in out
    (warning,) = [line for line in errors.splitlines() if "bad_kit" in line]
    for part in ("warning", "bad_kit 1.2.3", "bad_kit_module.py", "Did you mean 'rosd_kit_components'?"):
        assert part in warning


def test_the_command_line_fails_where_the_recipe_needs_the_broken_plugin(install, call):
    install("bad_kit", "import no_such_module_anywhere")
    code, _, errors = call("show", "rosd", "localizer=everywhere")
    assert code == 2 and "Traceback" not in errors
    (error,) = re.findall(r"^error: .*", errors, re.S | re.M)
    for part in ("'everywhere'", "bad_kit 1.2.3", "bad_kit_module.py", "No module named 'no_such_module_anywhere'"):
        assert part in error


def test_the_list_of_plugins_says_what_each_brings_or_why_it_is_left_out(install, good, call):
    install("bad_kit", good.replace('"everywhere"', '"full"'))
    install("good_kit", good)
    _, out, _ = call("plugins")
    listed = {block.split()[0]: block for block in re.split(r"\n(?=\S)", out)}
    assert "broken" in listed["bad_kit"] and "'full' is taken by builtin" in listed["bad_kit"]
    for part in ("ok", "1.2.3", "good_kit_module.py", "brings: localizer everywhere"):
        assert part in listed["good_kit"]


def test_a_plugin_adds_a_command_and_one_that_fails_at_it_stops_nobody(install, call, caplog):
    hook = "import rosd_kit as rk\n@rk.hookimpl\ndef rosd_kit_commands(app):\n    "
    install("greeting_kit", hook + "app.command('greet')(lambda: print('good day'))")
    install("bad_kit", hook + "raise ValueError('boom')")
    assert call("greet")[:2] == (0, "good day\n")
    assert "bad_kit" in caplog.text and "rosd_kit_commands raised ValueError: boom" in caplog.text


@pytest.mark.parametrize("taken", ["eval", "greet"])
def test_a_command_that_exists_already_is_not_replaced(install, call, taken):
    hook = "import rosd_kit as rk\n@rk.hookimpl\ndef rosd_kit_commands(app):\n    "
    install("a_greeting_kit", hook + "app.command('greet')(lambda: print('good day'))")
    install("bad_kit", hook + f"app.command('other')(lambda: None); app.command({taken!r})(lambda: print('mine'))")
    assert call("greet")[:2] == (0, "good day\n")
    assert "RUN_OR_MODEL" in call("eval", "--help")[1]
    assert call("other")[0] == 2
    listed = call("plugins")[1]
    assert f"there is a command {taken} already" in listed
