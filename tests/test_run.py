"""A whole run on a blank model of the embedded architecture: its files, and resuming it bit for bit."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from safetensors.torch import load_file

from rosd_kit.display import Display
from rosd_kit.errors import RunError
from rosd_kit.loop import execute
from rosd_kit.plugins import PluginManager
from rosd_kit.recipe import load_recipe

ROSD = str(Path(__file__).parents[1] / "recipes/rosd.yaml")
SMALL = [
    "model.path=micro-blank",
    "problems_per_step=2",
    "group_size=2",
    "sampling.max_new_tokens=12",
    "evaluation.problems=2",
    "evaluation.samples=1",
    "gate=all",
    "demonstration=reference",
    "reflector=oracle",
    "checkpoint.every=2",
]


def run(tmp_path: Path, name: str, steps: int, *, resume: bool = False, extra: tuple[str, ...] = ()) -> Path:
    plugins = PluginManager()
    recipe = load_recipe(ROSD, [*SMALL, f"steps={steps}", *extra], registry=plugins.registry)
    folder = tmp_path / name
    execute(recipe, plugins=plugins, out=tmp_path, name=name, resume=folder if resume else None, display=Display())
    return folder


def test_four_steps_are_two_and_a_resume_and_two(tmp_path):
    whole = run(tmp_path, "whole", 4)
    parted = run(tmp_path, "parted", 2)
    run(tmp_path, "parted", 4, resume=True)
    expected = load_file(whole / "model/model.safetensors")
    found = load_file(parted / "model/model.safetensors")
    assert expected.keys() == found.keys()
    assert all(expected[name].equal(found[name]) for name in expected)
    for step in (3, 4):
        name = f"samples/step-{step:06d}.jsonl"
        assert (whole / name).read_text() == (parted / name).read_text()
    steps = [json.loads(line)["step"] for line in (parted / "metrics.jsonl").read_text().splitlines()]
    assert steps == [1, 2, 3, 4]


def test_a_run_leaves_what_it_promises(tmp_path):
    folder = run(tmp_path, "run", 2)
    left = {path.name for path in folder.iterdir()}
    assert {"recipe.yaml", "environment.json", "metrics.jsonl", "evaluations.jsonl", "samples", "checkpoints", "model"} <= left
    assert ".lock" not in left
    assert [p.name for p in sorted((folder / "checkpoints").iterdir())] == ["step-000002"]


def test_a_folder_that_holds_a_run_is_not_written_over(tmp_path):
    run(tmp_path, "run", 1)
    before = (tmp_path / "run/metrics.jsonl").read_text()
    with pytest.raises(RunError, match="already holds a run"):
        run(tmp_path, "run", 1)
    assert (tmp_path / "run/metrics.jsonl").read_text() == before
