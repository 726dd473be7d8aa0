"""Paths that no system takes, wherever one may be given: a line that names the path, and no traceback."""

from __future__ import annotations

import pytest
import yaml

from rosd_kit.cli import main
from rosd_kit.cli.crashes import explain_path
from rosd_kit.errors import RecipeError
from rosd_kit.plugins.manager import PluginManager, PluginReport
from rosd_kit.recipe import load_recipe, resolve_recipe

LONG = ("a" * 5000, "a/" * 3000)
COMMANDS = [
    "report LONG",
    "run --resume LONG",
    "eval LONG",
    "eval micro --out LONG/x",
    "diagnose LONG",
    "sweep report LONG",
    "trust LONG",
    "plugins check LONG",
    "show rosd --plugin LONG",
    "show rosd --profile LONG",
    "show LONG",
]


def ended_with(capsys, *words) -> tuple[int, str]:
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in words])
    return int(ended.value.code or 0), capsys.readouterr().err


@pytest.fixture(autouse=True)
def own_home(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("path", LONG, ids=["one name", "many folders"])
def test_a_path_that_is_too_long_is_a_users_mistake(tmp_path, monkeypatch, capsys, command, path):
    monkeypatch.chdir(tmp_path)
    code, said = ended_with(capsys, *(word.replace("LONG", path) for word in command.split()))
    assert code == 2 and "aaa" in said.replace("a/", "a") and "report this" not in said
    assert not list(tmp_path.rglob("crash-*"))


@pytest.mark.parametrize("field", ["model.path", "model.chat_template", "task.path"])
@pytest.mark.parametrize("path", LONG, ids=["one name", "many folders"])
def test_a_recipe_with_a_path_that_is_too_long(tmp_path, monkeypatch, capsys, field, path):
    monkeypatch.chdir(tmp_path)
    data = ["task=dataset", "task.prompt=x", "task.answer=x", "verifier=exact", "reflector=none", "context=none"]
    beside = [*data, "localizer=full", "objective=[policy_gradient]"] if field == "task.path" else []
    code, said = ended_with(capsys, "run", "rosd", "profile=micro", *beside, f"{field}={path}", "--dry-run")
    assert code == 2 and "report this" not in said and not list(tmp_path.rglob("crash-*"))


@pytest.mark.parametrize("name", ["a" * 5000 + ".py", "a/" * 3000 + "b.py", "a\0.py", "", "~nouser/a.py", "/dev/zero"])
def test_a_recipe_that_names_an_odd_plugin_file(tmp_path, capsys, name):
    file = tmp_path / "r.yaml"
    file.write_text(yaml.safe_dump({"extends": "rosd", "plugins": {name: "0"}}))
    code, said = ended_with(capsys, "show", file)
    assert code == 2 and "report this" not in said


@pytest.mark.parametrize("field", ["name", "model.path", "sampling.stop", "tracking.project", "extends", "profile"])
def test_a_nul_in_a_recipe_is_refused_with_its_line(tmp_path, field):
    content = (
        {"extends": "rosd", field: "a\0b"} if "." not in field else {"extends": "rosd", field.split(".")[0]: {field: "\0"}}
    )
    file = tmp_path / "r.yaml"
    file.write_text(yaml.safe_dump(content))
    with pytest.raises(RecipeError, match=r"r\.yaml, line \d: a text holds a NUL character"):
        resolve_recipe(str(file), registry=PluginManager(selection="builtin").registry)
    with pytest.raises(RecipeError, match="NUL character"):
        load_recipe("rosd", [f'{field}="a\\0b"'], "micro", registry=PluginManager(selection="builtin").registry)


def test_what_a_plugin_does_with_paths_stays_the_plugins_fault(tmp_path):
    plugin = tmp_path / "mine.py"
    plugin.write_text("def use():\n    open('a' * 5000)\n")
    scope: dict = {}
    exec(compile(plugin.read_text(), str(plugin), "exec"), scope)
    with pytest.raises(OSError, match="too long") as caught:
        scope["use"]()
    assert "File name too long" in explain_path(caught.value)
    report = PluginReport(name="mine", distribution="file", version="-", file=str(plugin), status="loaded")
    assert explain_path(caught.value, [report]) is None
