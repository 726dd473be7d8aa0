"""Runs logged in real trackers, read back by the trackers' own readers; and trackers that fail."""

from __future__ import annotations

import importlib.util
import json
import sqlite3
import time

import pytest

from rosd_kit.display import make_display
from rosd_kit.errors import RecipeError
from rosd_kit.files import read_json_lines
from rosd_kit.plugins.manager import PluginManager
from rosd_kit.recipe import load_recipe
from rosd_kit.run import trackers
from rosd_kit.run.loop import run_recipe

SMALL = ("model.path=micro-blank", "gate=all", "demonstration=reference", "problems_per_step=2", "group_size=2",
         "sampling.max_new_tokens=8", "evaluation.problems=2", "evaluation.samples=1", "checkpoint.every=1", "reflector=none",
         "localizer=full", "context=solution")  # fmt: skip


def train(folder, *changes, steps=2, resume=None):
    """Run a small recipe and return the folder of its run."""
    manager = PluginManager(selection="builtin")
    recipe = load_recipe("rosd", [*SMALL, f"steps={steps}", *changes], registry=manager.registry)
    run_recipe(recipe, plugins=manager, out=folder, name="run", resume=resume, display=make_display(quiet=True))
    return folder / "run"


def metrics_of(run) -> list[dict[str, float]]:
    return list(read_json_lines(run / "metrics.jsonl"))


def means_of(run) -> dict[tuple[int, str], float]:
    lines = map(json.loads, (run / "evaluations.jsonl").read_text().splitlines())
    return {(line["step"], result["suite"]): result["mean"] for line in lines for result in line["results"]}


def test_tensorboard_holds_the_metrics_the_evaluations_and_the_recipe(tmp_path):
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = train(tmp_path, "tracking.to=[tensorboard]")
    reader = EventAccumulator(str(run / "tensorboard"))
    reader.Reload()
    for name in ("train/loss", "rollout/length", "time/step"):
        logged = {event.step: event.value for event in reader.Scalars(name)}
        assert logged == pytest.approx({record["step"]: record[name] for record in metrics_of(run)}, rel=1e-5)
    for (step, suite), mean in means_of(run).items():
        logged = {event.step: event.value for event in reader.Scalars(f"evaluation/{suite}/mean")}
        assert logged[step] == pytest.approx(mean)
    (settings,) = (run / "tensorboard").rglob("hparams.yml")
    text = settings.read_text()
    assert "divergence.name: jsd" in text and "divergence.beta: 0.5" in text and "model.path: micro-blank" in text


def test_a_resumed_run_continues_in_tensorboard_without_the_lost_steps(tmp_path):
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = train(tmp_path, "tracking.to=[tensorboard]", steps=2)
    train(tmp_path, "tracking.to=[tensorboard]", steps=3, resume=run)
    reader = EventAccumulator(str(run / "tensorboard"))
    reader.Reload()
    assert [event.step for event in reader.Scalars("train/loss")] == [1, 2, 3]


def test_mlflow_holds_the_metrics_and_the_recipe(tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow", reason="mlflow is not installed")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    run = train(tmp_path, "tracking.to=[mlflow]", "tracking.project=trial")
    known = json.loads((run / "tracking.json").read_text())["mlflow"]
    client = mlflow.MlflowClient(f"sqlite:///{run / 'mlflow.db'}")
    logged = {m.step: m.value for m in client.get_metric_history(known, "train/loss")}
    assert logged == pytest.approx({record["step"]: record["train/loss"] for record in metrics_of(run)})
    params = client.get_run(known).data.params
    assert (params["divergence.name"], params["steps"]) == ("jsd", "2")
    assert client.get_run(known).info.status == "FINISHED"


def test_wandb_offline_takes_the_run(tmp_path, monkeypatch):
    pytest.importorskip("wandb", reason="wandb is not installed")
    monkeypatch.setenv("WANDB_MODE", "offline")
    run = train(tmp_path, "tracking.to=[wandb]")
    (folder,) = (run / "wandb").glob("offline-run-*")
    (record,) = folder.glob("*.wandb")
    deadline = time.monotonic() + 60  # wandb's own process may still be writing when its run has been finished
    while b"train/loss" not in record.read_bytes() and time.monotonic() < deadline:
        time.sleep(0.1)
    content = record.read_bytes()
    assert b"train/loss" in content and b"micro-blank" in content
    assert json.loads((run / "tracking.json").read_text())["wandb"] in record.name


def test_trackio_holds_the_metrics(tmp_path, monkeypatch):
    if importlib.util.find_spec("trackio") is None:
        pytest.skip("trackio is not installed")
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))  # read when it is first imported
    run = train(tmp_path, "tracking.to=[trackio]", "tracking.project=trial")
    (file,) = (tmp_path / "trackio").rglob("*.db")
    rows = [str(row) for row in sqlite3.connect(file).execute("select * from metrics")]
    assert len([row for row in rows if "train/loss" in row]) == len(metrics_of(run)) == 2
    assert all(json.loads((run / "tracking.json").read_text())["trackio"] in row for row in rows)


class Failing:
    """A tracker that fails at one of its methods and counts the calls of the others."""

    def __init__(self, at: str) -> None:
        self.at, self.calls = at, []

    def __getattr__(self, name):
        def call(*_, **__):
            self.calls.append(name)
            if name == self.at:
                raise ConnectionError("no route to host")

        return call


@pytest.mark.parametrize("at", ["store_init_configuration", "log", "finish"])
def test_a_failing_tracker_is_warned_of_once_and_run_and_other_trackers_continue(tmp_path, monkeypatch, at):
    opened = {"wandb": Failing(at), "trackio": Failing("never")}
    monkeypatch.setattr(trackers, "_opened", lambda name, run: opened[name])
    warned = []
    display = make_display(quiet=True)
    monkeypatch.setattr(type(display), "warning", lambda self, text: warned.append(text))
    run = train(tmp_path, "tracking.to=[wandb, trackio]")
    assert len(metrics_of(run)) == 2
    (text,) = [text for text in warned if "wandb" in text]
    assert "no route to host" in text and "trackers" in text
    # the recipe, an evaluation before, two steps, an evaluation after, the end
    assert opened["trackio"].calls == ["store_init_configuration", "log", "log", "log", "log", "finish"]
    assert opened["wandb"].calls.count(at) == 1


def test_a_tracker_that_is_not_installed_is_an_error_with_the_remedy(tmp_path, monkeypatch):
    monkeypatch.setattr(trackers.importlib.util, "find_spec", lambda name: None)
    manager = PluginManager(selection="builtin")

    class Run:
        recipe = load_recipe("rosd", ["tracking.to=[mlflow]"], registry=manager.registry)

    (message,) = manager.notify("rosd_kit_run_start", run=Run)
    assert "mlflow is not installed. Run: pip install 'rosd-kit[mlflow]'" in message


def test_an_unknown_tracker_is_refused_when_the_recipe_loads():
    with pytest.raises(RecipeError, match=r"tracking\.to.*tensorbord"):
        load_recipe("rosd", ["tracking.to=[tensorbord]"], registry=PluginManager(selection="builtin").registry)


def test_without_trackers_nothing_is_opened(tmp_path):
    run = train(tmp_path, steps=1)
    assert not (run / "tracking.json").exists()
