"""The first twenty losses of two recipes on the embedded model, which a refactoring may not change."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rosd_kit.display import make_display
from rosd_kit.plugins.manager import PluginManager
from rosd_kit.recipe import load_recipe
from rosd_kit.run.loop import run_recipe

TRACE = Path(__file__).parents[1] / "golden/trace.json"
CHANGES = ["steps=20", "problems_per_step=6", "evaluation.problems=0"]
KEPT = ("train/loss", "train/grad_norm", "train/weighted_tokens", "rollout/success", "rollout/length")


@pytest.mark.parametrize("name", ["rosd", "opsd"])
def test_the_first_steps_match_the_golden_trace(name, tmp_path, request):
    manager = PluginManager(selection="builtin")
    recipe = load_recipe(name, CHANGES, registry=manager.registry)
    run_recipe(recipe, plugins=manager, out=tmp_path, name="run", resume=None, display=make_display(quiet=True))
    lines = (tmp_path / "run/metrics.jsonl").read_text().splitlines()
    found = [{key: record.get(key) for key in KEPT} for record in map(json.loads, lines)]
    kept = json.loads(TRACE.read_text()) if TRACE.exists() else {}
    if request.config.getoption("--update-golden"):
        TRACE.write_text(json.dumps({**kept, name: found}, indent=1) + "\n")
    else:
        assert len(found) == len(kept[name]) == 20
        for step, expected in zip(found, kept[name], strict=True):
            assert step == pytest.approx(expected, rel=1e-3), "if that is wanted: pytest --update-golden"
