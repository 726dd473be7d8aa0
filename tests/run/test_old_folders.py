"""The folder of a run that was made before names changed resumes and reports.

`api1/` was written by the last version of plugin API 1, stopped after 2 of 4 steps, with `sampling.lookahead=1`: the third
batch lies in its checkpoint.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from rosd_kit.display import Display
from rosd_kit.plugins.manager import PluginManager
from rosd_kit.recipe import load_recipe
from rosd_kit.renames import RenamedWarning
from rosd_kit.report.packing import overview
from rosd_kit.report.page import write_report
from rosd_kit.report.reading import RunRecords
from rosd_kit.run.loop import run_recipe

OLD = Path(__file__).parent / "api1"


@pytest.fixture
def old(tmp_path) -> Path:
    pytest.importorskip("peft", reason="the run trains adapters: pip install 'rosd-kit[lora]'")
    return shutil.copytree(OLD, tmp_path / "old")


def test_an_old_run_resumes_with_the_prefetched_batch_of_its_checkpoint(old, open_run):
    plugins = PluginManager()
    with pytest.warns(RenamedWarning, match=r"recipe.yaml: sampling.lookahead is called sampling.prefetch"):
        recipe = load_recipe(old / "recipe.yaml", registry=plugins.registry)
        run_recipe(recipe, plugins=plugins, out=old.parent, name=None, resume=old, display=Display())
    folder = open_run(old)
    state = json.loads((OLD / "checkpoints/step-000002/state.json").read_text())
    rollouts = [rollout for group in state["ahead"]["batch"]["groups"] for rollout in group["rollouts"]]
    assert state["ahead"]["step"] == 2 and len(rollouts) == 2
    sampled = folder.sampled()
    assert sampled["step-000003"] == [list(rollout["completion"]["token_ids"]) for rollout in rollouts]
    assert list(sampled) == [f"step-00000{step}" for step in (1, 2, 3, 4)]
    metrics = folder.lines("metrics.jsonl")
    assert [line["step"] for line in metrics] == [1, 2, 3, 4]
    assert all("time/prefetch" in line and "time/ahead" not in line for line in metrics)
    before = [json.loads(line) for line in (OLD / "metrics.jsonl").read_text().splitlines()]
    assert [line["time/prefetch"] for line in metrics[:2]] == [line["time/ahead"] for line in before]
    text = (old / "recipe.yaml").read_text()
    assert "  prefetch: 1\n" in text and "lookahead" not in text


def test_an_old_run_is_reported_with_current_metric_names(old):
    records = RunRecords.read(old)
    before = [json.loads(line) for line in (OLD / "metrics.jsonl").read_text().splitlines()]
    assert [record["time/prefetch"] for record in records.metrics] == [line["time/ahead"] for line in before]
    assert all("time/ahead" not in record for record in records.metrics)
    shown = overview(records)["metrics"]
    assert all("time/prefetch" in record and "time/ahead" not in record for record in shown)
    assert write_report(old, None).is_file()
