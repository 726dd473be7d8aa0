"""How long a sweep takes is timed in a run that leaves nothing behind."""

from __future__ import annotations

from rosd_kit.plugins.manager import PluginManager
from rosd_kit.recipe import load_recipe
from rosd_kit.run import loop
from rosd_kit.sweep.estimate import time_steps


def test_the_timed_run_is_short_and_tells_no_tracker(monkeypatch):
    asked = []
    monkeypatch.setattr(loop, "run_recipe", lambda recipe, **options: asked.append(recipe))
    manager = PluginManager(selection="builtin")
    words = ["tracking.to=[wandb]", "steps=50", "evaluation.every=5", "samples.every=1"]
    time_steps(load_recipe("rosd", words, registry=manager.registry), manager)
    [short] = asked
    assert (short.steps, short.evaluation.every, short.samples.every, short.tracking.to) == (2, 0, 0, [])
