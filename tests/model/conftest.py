"""Short runs with models that a test has saved."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rosd_kit.display import Display
from rosd_kit.plugins.manager import PluginManager
from rosd_kit.recipe import load_recipe
from rosd_kit.run.loop import run_recipe

COIN = Path(__file__).with_name("coin.py")
TINY = (
    "verifier=coin",
    "verifier.truncated=score",  # random models seldom end a response
    "steps=1",
    "problems_per_step=2",
    "group_size=2",
    "model.device=cpu",
    "sampling.max_new_tokens=10",
    "reflector.max_new_tokens=10",
    "optimizer.warmup_steps=0",
    "evaluation.problems=0",
)


@pytest.fixture(scope="session")
def plugins():
    return PluginManager([COIN])


@pytest.fixture
def recipe(plugins):
    def load(model, *changes, profile="micro", tiny=TINY):
        return load_recipe("rosd", [*tiny, f"model.path={model}", *changes], profile, registry=plugins.registry)

    return load


@pytest.fixture
def train(recipe, plugins, tmp_path):
    """Train one step with a saved model; return its metrics and the run folder."""

    def run(model, *changes, name="run"):
        run_recipe(recipe(model, *changes), plugins=plugins, out=tmp_path, name=name, resume=None, display=Display())
        lines = (tmp_path / name / "metrics.jsonl").read_text().splitlines()
        return json.loads(lines[-1]), tmp_path / name

    return run
