"""A recipe names the plugin files that it needs, and every command that is printed carries them."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from rosd_kit.cli import main
from rosd_kit.plugins.fingerprint import fingerprint
from rosd_kit.plugins.manager import PluginManager
from rosd_kit.recipe.trust_store import remember_run, trust

PLUGIN = '''
import rosd_kit as rk


class Later(rk.Localizer):
    """Weights nothing before a place."""

    name = "later"

    def locate(self, case):
        return rk.TokenWeights(weights=(1.0,) * len(case.rollout.completion.token_ids), outcome="later")


@rk.hookimpl
def rosd_kit_components():
    return [Later]
'''


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "later.py").write_text(PLUGIN)
    return tmp_path


@pytest.fixture
def call(capsys):
    def call(*words: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main(words)
        output = capsys.readouterr()
        return ended.value.code or 0, output.out, output.err

    return call


@pytest.fixture
def run_folder(folder, call):
    """A run's folder with a resolved recipe that was started here, as `run` leaves it."""
    _, text, _ = call("show", "rosd", "--plugin", "later.py", "localizer=later")
    (folder / "runs/a").mkdir(parents=True)
    (folder / "runs/a/recipe.yaml").write_text(text)
    remember_run(folder / "runs/a", text)
    return folder / "runs/a"


def test_a_resolved_recipe_names_the_file_with_its_fingerprint(folder, call):
    code, text, _ = call("show", "rosd", "--plugin", "later.py", "localizer=later")
    assert code == 0
    assert yaml.safe_load(text)["plugins"] == {str(folder / "later.py"): fingerprint("later.py")}
    assert "plugins" not in yaml.safe_load(call("show", "rosd", "--plugin", "later.py")[1])


def test_the_recipe_of_a_run_that_was_started_here_runs_again_as_it_is(run_folder, call):
    code, text, errors = call("show", str(run_folder / "recipe.yaml"))
    assert (code, errors) == (0, "")
    assert yaml.safe_load(text)["localizer"]["name"] == "later"


def test_a_changed_file_is_refused_until_it_is_named(run_folder, folder, call):
    before = fingerprint("later.py")
    (folder / "later.py").write_text(PLUGIN + "\n# changed\n")
    code, _, errors = call("show", str(run_folder / "recipe.yaml"))
    assert code == 2 and f"has changed since the recipe was written ({before} -> {fingerprint('later.py')})" in errors
    code, _, errors = call("show", str(run_folder / "recipe.yaml"), "--plugin", "later.py")
    assert code == 0 and errors.startswith("warning: plugin file ") and f"{before} -> {fingerprint('later.py')}" in errors


def test_a_missing_file_is_said_and_may_come_from_elsewhere(run_folder, folder, call):
    (folder / "elsewhere").mkdir()
    (folder / "later.py").rename(folder / "elsewhere/later.py")
    code, _, errors = call("show", str(run_folder / "recipe.yaml"))
    assert code == 2 and f"{str(folder / 'later.py')!r}, which is missing" in errors and "--plugin" in errors
    assert call("show", str(run_folder / "recipe.yaml"), "--plugin", "elsewhere/later.py")[::2] == (0, "")


def test_a_strangers_recipe_loads_no_file_until_its_folder_is_trusted(run_folder, folder, call):
    (folder / "got").mkdir()
    (folder / "got/recipe.yaml").write_text((run_folder / "recipe.yaml").read_text())
    code, _, errors = call("show", "got/recipe.yaml")
    assert code == 2 and "asks to load the plugin file" in errors and f"--plugin {folder / 'later.py'}" in errors
    trust(folder / "got")
    assert call("show", "got/recipe.yaml")[0] == 0


@pytest.mark.parametrize("written", ["[later.py]", "later.py", "{later.py: 1}"])
def test_another_form_is_refused(folder, call, written):
    (folder / "mine.yaml").write_text(f"extends: rosd\nplugins: {written}\n")
    code, _, errors = call("show", "mine.yaml")
    assert code == 2 and "plugins: " in errors and "must map plugin files to their fingerprints" in errors


def test_hints_carry_the_plugin_files(folder):
    manager = PluginManager([Path("later.py")], selection="builtin")
    assert manager.hint("rosd-kit run --resume runs/a") == "rosd-kit run --plugin later.py --resume runs/a"
    assert (
        manager.hint("See: rosd-kit components localizer later") == "See: rosd-kit components --plugin later.py localizer later"
    )
    for text in ("rosd-kit report runs/a", "rosd-kit plugins check later.py", "rosd-kit sweep report x", "rosd-kit trust x"):
        assert manager.hint(text) == text
    assert PluginManager(selection="builtin").hint("rosd-kit run rosd") == "rosd-kit run rosd"


def test_an_error_of_a_command_names_commands_with_the_plugin_file(folder, call):
    _, _, errors = call("show", "rosd", "--plugin", "later.py", "localizer=latr")
    assert "Did you mean 'later'?" in errors and "See: rosd-kit components --plugin later.py localizer" in errors
