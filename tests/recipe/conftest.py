"""The built-in components, and recipes that must be refused."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from jsonschema import Draft202012Validator

from rosd_kit.errors import RecipeError
from rosd_kit.plugins.manager import PluginManager
from rosd_kit.plugins.registry import Registry
from rosd_kit.recipe import load_recipe, recipe_schema


@pytest.fixture(scope="session")
def registry() -> Registry:
    return PluginManager(selection="builtin").registry


@pytest.fixture(scope="session")
def schema(registry) -> Draft202012Validator:
    """The schema of recipes, read once."""
    return Draft202012Validator(recipe_schema(registry))


@pytest.fixture(scope="session")
def profile_schema(registry) -> Draft202012Validator:
    """The schema of profiles, read once."""
    return Draft202012Validator(recipe_schema(registry, profile=True))


@pytest.fixture
def refuse(registry, tmp_path, monkeypatch) -> Callable[..., str]:
    """Return the message with which the text of `mine.yaml`, or changes to `rosd`, are refused."""
    monkeypatch.chdir(tmp_path)

    def message(text: str | bytes = "extends: rosd", *changes: str) -> str:
        (tmp_path / "mine.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())
        with pytest.raises(RecipeError) as caught:
            load_recipe("mine.yaml", changes, registry=registry)
        return str(caught.value)

    return message
