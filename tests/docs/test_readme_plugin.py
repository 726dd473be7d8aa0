"""The README's plugin is a file that works as it stands."""

from __future__ import annotations

import re
from pathlib import Path

from rosd_kit.plugins import PluginManager
from rosd_kit.recipe import build_components, load_recipe

ROOT = Path(__file__).parents[2]


def test_the_readmes_plugin_fills_its_slot(tmp_path):
    (source,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    file = tmp_path / "after_keyword.py"
    file.write_text(source)
    registry = PluginManager([file]).registry
    recipe = load_recipe(str(ROOT / "recipes/rosd.yaml"), ["localizer=after_keyword"], registry=registry)
    assert build_components(recipe, registry).localizer.config.keyword == "Answer"


def test_every_shipped_recipe_loads():
    registry = PluginManager().registry
    recipes = sorted(p for p in (ROOT / "recipes").rglob("*.yaml") if "profiles" not in p.parts)
    assert len(recipes) >= 17
    for path in recipes:
        assert build_components(load_recipe(str(path), registry=registry), registry).task.name in ("micro", "micro_corpus")
