"""An error inside a plugin's component names the plugin."""

from __future__ import annotations

import pytest

from rosd_kit.display import make_display
from rosd_kit.plugins.manager import PluginManager
from rosd_kit.recipe import load_recipe
from rosd_kit.run.loop import run_recipe


def test_an_error_in_a_component_names_the_plugin_it_came_from(tmp_path, good):
    file = tmp_path / "everywhere.py"
    file.write_text(good.replace("return rk.TokenWeights", "raise KeyError('boom')\n        return rk.TokenWeights"))
    manager = PluginManager([file], selection="builtin")
    changes = ["localizer=everywhere", "steps=1", "problems_per_step=4", "evaluation.problems=0"]
    recipe = load_recipe("rosd", changes, registry=manager.registry)
    with pytest.raises(KeyError, match="boom") as caught:
        run_recipe(recipe, plugins=manager, out=tmp_path, name="run", resume=None, display=make_display(quiet=True))
    cause, note = caught.value.__notes__
    assert cause.startswith("localizer 'everywhere' failed on ") and "boom" not in cause, "the error says that itself"
    assert "localizer 'everywhere'" in note and str(file) in note
