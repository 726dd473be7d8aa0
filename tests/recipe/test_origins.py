"""A run's record says where each value comes from and what it changes of the shipped recipe beneath it, also after a resume."""

from __future__ import annotations

import json

import pytest

from rosd_kit.plugins.manager import PluginManager
from rosd_kit.recipe import resolve_recipe, to_values
from rosd_kit.recipe.origins import origins_record
from rosd_kit.run.folder import RunFolder
from rosd_kit.run.recipe_file import write_origins


@pytest.fixture(scope="module")
def registry():
    return PluginManager(selection="builtin").registry


def record_of(registry, what, *changes, profile=None, earlier=None):
    resolution = resolve_recipe(what, changes, profile, registry=registry)
    return origins_record(resolution.recipe, resolution, registry, earlier or {})


def test_changes_of_the_command_line_are_listed_beside_the_values_of_the_shipped_recipe(registry):
    record = record_of(registry, "rosd", "steps=7", "reflector=oracle")
    assert (record["preset"], record["profile"]) == ("rosd", "micro")
    changes = {each["path"]: each for each in record["changes"]}
    assert changes["steps"] == {"path": "steps", "preset": "80", "value": "7", "origin": "command line"}
    assert changes["reflector.name"] == {
        "path": "reflector.name", "preset": '"tutor"', "value": '"oracle"', "origin": "command line"
    }  # fmt: skip
    assert changes["reflector.weights"]["value"] is None
    assert "steps: 7                                        # command line" in record["explained"].splitlines()


def test_a_file_that_extends_a_shipped_recipe_is_compared_with_it_under_its_own_profile(registry, tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("extends: rosd\nprofile: smol\nlocalizer: full\n")
    record = record_of(registry, file)
    assert (record["preset"], record["profile"]) == ("rosd", "smol")
    assert {each["path"].split(".")[0] for each in record["changes"]} == {"localizer"}
    assert all(str(file) in each["origin"] for each in record["changes"] if each["value"] is not None)


def test_an_unchanged_recipe_changes_nothing_and_a_recipe_of_ones_own_has_nothing_beneath_it(registry):
    assert record_of(registry, "sdpo")["changes"] == []
    values = to_values(resolve_recipe("rosd", registry=registry).recipe)
    alone = resolve_recipe({**values, "profile": "none"}, registry=registry)
    record = origins_record(alone.recipe, alone, registry)
    assert record["preset"] is None and record["changes"] == []


def test_a_resumed_run_keeps_its_origins_and_adds_what_the_command_line_changes(registry, tmp_path):
    folder = RunFolder.create(tmp_path, "run", "rosd")
    first = resolve_recipe("rosd", ["localizer=full"], registry=registry)
    write_origins(folder, first.recipe, first, registry)
    earlier = folder.path / "origins.json"
    (folder.path / "recipe.yaml").write_text(record_of(registry, "rosd", "localizer=full")["explained"])
    again = resolve_recipe(str(folder.path / "recipe.yaml"), ["steps=200"], registry=registry)
    assert again.preset is None
    write_origins(folder, again.recipe, again, registry)
    folder.close()
    record = json.loads(earlier.read_text())
    assert (record["preset"], record["profile"]) == ("rosd", "micro")
    changed = {each["path"]: (each["value"], each["origin"]) for each in record["changes"]}
    assert changed["steps"] == ("200", "command line") and changed["localizer.name"] == ('"full"', "command line")
    assert record["origins"]["group_size"] == "profile micro"


def test_a_record_of_a_profile_that_is_gone_lists_no_changes(registry):
    earlier = {"preset": "rosd", "profile": "/gone/profile.yaml", "origins": {"steps": "command line"}}
    assert record_of(registry, "rosd", "steps=7", earlier=earlier)["changes"] == []
