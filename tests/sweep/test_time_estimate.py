"""The run that times a sweep's steps is short and has no side effects."""

from __future__ import annotations

from rosd_kit.plugins.manager import PluginManager
from rosd_kit.recipe import load_recipe
from rosd_kit.run import loop
from rosd_kit.sweep.estimate import time_steps


def test_the_timed_run_is_short_and_has_no_trackers(monkeypatch):
    recipes = []
    monkeypatch.setattr(loop, "run_recipe", lambda recipe, **options: recipes.append(recipe))
    manager = PluginManager(selection="builtin")
    words = ["tracking.to=[wandb]", "steps=50", "evaluation.every=5", "samples.every=1"]
    time_steps(load_recipe("rosd", words, registry=manager.registry), manager)
    [short] = recipes
    assert (short.steps, short.evaluation.every, short.samples.every, short.tracking.to) == (2, 0, 0, [])
