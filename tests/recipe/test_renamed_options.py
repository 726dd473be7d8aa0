"""Recipes with options under old names load, say what to write, and win over lower layers as they always did."""

from __future__ import annotations

import warnings
from typing import ClassVar

import pytest

from rosd_kit.components.gates import AllRollouts
from rosd_kit.contracts import Config
from rosd_kit.errors import RecipeError
from rosd_kit.plugins.manager import PluginManager
from rosd_kit.plugins.registry import Origin
from rosd_kit.recipe import load_recipe, resolve_recipe, to_yaml
from rosd_kit.renames import RenamedWarning


class Windowed(AllRollouts):
    """Lets every rollout pass, and has an option that was called otherwise."""

    name = "windowed"

    class Config(Config):
        renamed_options: ClassVar = {"window_size": "window"}
        window: int = 1


@pytest.fixture(scope="module")
def registry():
    known = PluginManager(selection="builtin").registry
    known.add([Windowed], Origin(plugin="test", distribution="-", version="-", file="-"))
    return known


@pytest.fixture
def load(registry, tmp_path, monkeypatch):
    """Load a recipe of this text, with a profile where one is given; return it and what was said of old names."""
    monkeypatch.chdir(tmp_path)

    def load(text: str, *overrides: str, profile: str | None = None):
        (tmp_path / "mine.yaml").write_text(f"extends: rosd\n{text}")
        if profile is not None:
            (tmp_path / "profile.yaml").write_text(f"extends: micro\n{profile}")
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            recipe = load_recipe("mine.yaml", overrides, "profile.yaml" if profile is not None else None, registry=registry)
        return recipe, [str(warning.message) for warning in caught if issubclass(warning.category, RenamedWarning)]

    return load


def test_an_old_option_loads_and_the_warning_gives_the_new_name(load, registry):
    recipe, messages = load("sampling: {lookahead: 1}")
    assert recipe.sampling.prefetch == 1
    (message,) = messages
    assert message.startswith("mine.yaml: sampling.lookahead is called sampling.prefetch since plugin API 2; ")
    assert "; write sampling.prefetch. " in message
    assert "prefetch: 1" in to_yaml(recipe) and "lookahead" not in to_yaml(recipe)


def test_an_old_option_works_in_every_layer_and_higher_layers_win(load):
    assert load("", profile="sampling: {lookahead: 1}")[0].sampling.prefetch == 1
    assert load("", "sampling.lookahead=1")[0].sampling.prefetch == 1
    assert load("sampling: {lookahead: 1}", "sampling.prefetch=0")[0].sampling.prefetch == 0
    assert load("sampling: {prefetch: 1}", "sampling.lookahead=0")[0].sampling.prefetch == 0
    assert load("sampling: {lookahead: 0}", profile="sampling: {prefetch: 1}")[0].sampling.prefetch == 0


def test_a_current_recipe_loads_without_a_warning(load):
    assert load("sampling: {prefetch: 1}\ngate: {name: windowed, window: 3}")[1] == []


def test_the_origin_of_a_value_is_that_of_its_old_name(registry):
    with pytest.warns(RenamedWarning, match="command line: sampling.lookahead"):
        resolved = resolve_recipe("rosd", ["sampling.lookahead=1"], registry=registry)
    assert resolved.provenance["sampling.prefetch"] == "command line"


def test_a_reference_to_an_old_option_is_followed(load):
    assert load("sampling: {lookahead: 1}\nseed: ${sampling.lookahead}")[0].seed == 1


def test_a_value_under_an_old_name_is_checked_under_the_current_one(load):
    with pytest.raises(RecipeError, match=r"sampling.prefetch: 2 \(from mine.yaml\) is not allowed"):
        load("sampling: {lookahead: 2}")


@pytest.mark.parametrize(
    ("text", "overrides", "source"),
    [
        ("sampling: {lookahead: 1, prefetch: 1}", (), "mine.yaml"),
        ("", ("sampling.lookahead=1", "sampling.prefetch=1"), "command line"),
        ("", ("sampling.prefetch=1", "sampling.lookahead=1"), "command line"),
    ],
)
def test_both_names_of_an_option_in_one_layer_are_refused(load, text, overrides, source):
    expected = f"sampling.lookahead: is the old name of sampling.prefetch, which is given too .both from {source}."
    with pytest.raises(RecipeError, match=expected):
        load(text, *overrides)


def test_a_component_names_old_options_of_its_own(load):
    recipe, messages = load("gate: {name: windowed, window_size: 3}")
    assert recipe.gate.options.window == 3
    assert messages == ["mine.yaml: gate.window_size is called gate.window; write gate.window."]
    assert load("gate: windowed", "gate.window_size=4")[0].gate.options.window == 4
    assert load("gate: {name: windowed, window: 3}", "gate.window_size=4")[0].gate.options.window == 4
    assert load("gate: {name: windowed, window_size: 3}", "gate.window=4")[0].gate.options.window == 4


def test_an_old_option_of_a_component_works_in_a_profile(load):
    profile = "components: {gate: {windowed: {window_size: 5}}}"
    recipe, messages = load("gate: windowed", profile=profile)
    assert recipe.gate.options.window == 5
    assert messages == [
        "profile profile.yaml: components.gate.windowed.window_size is called components.gate.windowed.window; "
        "write components.gate.windowed.window."
    ]
    assert load("gate: {name: windowed, window_size: 6}", profile=profile)[0].gate.options.window == 6


@pytest.mark.parametrize(
    ("text", "overrides"),
    [
        ("gate: {name: windowed, window: 1, window_size: 2}", ()),
        ("gate: windowed", ("gate.window=1", "gate.window_size=2")),
    ],
)
def test_both_names_of_a_component_s_option_in_one_layer_are_refused(load, text, overrides):
    with pytest.raises(RecipeError, match=r"gate\.window_size: is the old name of gate\.window, which is given too"):
        load(text, *overrides)


def test_an_old_name_of_another_component_s_option_is_unknown(load):
    with pytest.raises(RecipeError, match=r"gate\.window_size: unknown field"):
        load("gate: {name: all, window_size: 2}")
