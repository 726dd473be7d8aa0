"""Real runs with scheduled options: what each step samples, scores and updates with."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from rosd_kit.api import train
from rosd_kit.components.objectives import PolicyGradient
from rosd_kit.components.rollouts import TransformersEngine
from rosd_kit.contracts import Gate
from rosd_kit.display import Display
from rosd_kit.errors import RunError
from rosd_kit.plugins.manager import PluginManager
from rosd_kit.recipe import load_recipe
from rosd_kit.run import update
from rosd_kit.run.evaluate import evaluate_model
from rosd_kit.types import GateDecision, Passed

LENIENT = """
import rosd_kit as rk

rosd_kit_api = 2


class Lenient(rk.Verifier):
    \"\"\"Passes what is at least as good as an option says.\"\"\"

    name = "lenient"

    class Config(rk.Verifier.Config):
        \"\"\"One number.\"\"\"

        least: float = 0.5
        \"\"\"Everything passes at 0, nothing at 1.\"\"\"

    def verify(self, problem, text):
        passes = self.config.least < 0.5
        return rk.Verdict(score=float(passes), success=passes, feedback="")


@rk.hookimpl
def rosd_kit_components():
    return [Lenient]
"""


class Stopping(Display):
    """Interrupts the run at the end of a step."""

    def __init__(self, at: int) -> None:
        self.at = at

    def step(self, step: int, metrics: Any) -> None:
        if step == self.at:
            os.kill(os.getpid(), signal.SIGINT)


@dataclass
class Observed:
    """What engine and loss were given, step by step."""

    sampled: list[float] = field(default_factory=list)
    scored: list[float] = field(default_factory=list)
    shares: list[list[float]] = field(default_factory=list)
    weights: list[list[float]] = field(default_factory=list)


@pytest.fixture
def observed(monkeypatch) -> Observed:
    """Listen to the engine's requests and to the loss."""
    observed, generate, backward = Observed(), TransformersEngine.generate, update.backward_step

    def listening(self: Any, requests: Any, **options: Any) -> Any:
        observed.sampled += sorted({request.sampling.temperature for request in requests})
        return generate(self, requests, **options)

    def scoring(**arguments: Any) -> Any:
        observed.scored.append(arguments["temperature"])
        observed.shares.append([model.share for model in arguments["teacher_models"]])
        observed.weights.append([term.weight for term in arguments["objectives"]])
        return backward(**arguments)

    monkeypatch.setattr(TransformersEngine, "generate", listening)
    monkeypatch.setattr(update, "backward_step", scoring)
    return observed


COOLING = "sampling.temperature={from: 1.0, to: 0.5, steps: 2}"


@pytest.mark.parametrize("prefetch", [0, 1])
def test_each_batch_is_sampled_and_scored_at_the_temperature_of_its_step(run, tmp_path, observed, prefetch):
    folder = run(tmp_path / "one", "steps=4", COOLING, f"sampling.prefetch={prefetch}")
    assert observed.sampled == observed.scored == [1.0, 0.75, 0.5, 0.5]
    assert [line["schedule/sampling.temperature"] for line in folder.lines("metrics.jsonl")] == observed.scored


def test_a_teacher_a_weight_and_the_rate_follow_their_schedules(run, tmp_path, observed):
    folder = run(
        tmp_path / "one", "steps=4",
        "teacher={name: trust_region, alpha: {from: 0.5, to: 0.8, steps: 3}}",
        "objective.weight={from: 1, to: 0.25, steps: 2, shape: step}",
        "optimizer.lr={from: 1e-4, to: 1e-5, steps: 2, warmup: 2}",
    )  # fmt: skip
    assert observed.shares == [pytest.approx([1 - alpha, alpha]) for alpha in (0.5, 0.6, 0.7, 0.8)]
    assert observed.weights == [[1.0], [1.0], [0.25], [0.25]]
    metrics = folder.lines("metrics.jsonl")
    assert [line["train/lr"] for line in metrics] == pytest.approx([5e-5, 1e-4, 1e-4, 5.5e-5])
    assert [line["schedule/teacher.alpha"] for line in metrics] == pytest.approx([0.5, 0.6, 0.7, 0.8])
    assert {name for name in metrics[0] if name.startswith("schedule/")} == {
        "schedule/teacher.alpha", "schedule/objective.weight", "schedule/optimizer.lr",
    }  # fmt: skip


def test_terms_of_the_loss_are_counted_in_the_names(run, tmp_path, observed):
    distill = "{name: distill, weight: {from: 1, to: 0, steps: 2}}"
    reinforce = "{name: policy_gradient, clip_low: {from: 0.2, to: 0.1, steps: 1}}"
    folder = run(tmp_path / "one", "steps=3", f"objective=[{distill}, {reinforce}]")
    assert observed.weights == [[1.0, 1.0], [0.5, 1.0], [0.0, 1.0]]
    assert [line["schedule/objective.0.weight"] for line in folder.lines("metrics.jsonl")] == [1.0, 0.5, 0.0]
    assert [line["schedule/objective.1.clip_low"] for line in folder.lines("metrics.jsonl")] == [0.2, 0.1, 0.1]
    again = load_recipe(folder.path / "recipe.yaml", registry=PluginManager().registry)
    assert list(again.schedules()) == ["objective.0.weight", "objective.1.clip_low"]


def test_a_constant_schedule_is_the_constant(run, same, tmp_path):
    constant = run(tmp_path / "constant", "steps=2", "optimizer.lr=1e-4", "sampling.temperature=0.5")
    scheduled = run(
        tmp_path / "scheduled", "steps=2",
        "optimizer.lr={from: 1e-4, to: 1e-4, steps: 9}", "sampling.temperature={from: 0.5, to: 0.5, steps: 9}",
    )  # fmt: skip
    assert same(constant.weights(), scheduled.weights()) and constant.sampled() == scheduled.sampled()


@pytest.mark.parametrize("prefetch", [0, 1])
def test_a_resumed_run_continues_its_schedules(run, same, tmp_path, prefetch):
    changes = (
        COOLING, f"sampling.prefetch={prefetch}", "teacher={name: ema, rate: {from: 0.5, to: 0.1, steps: 3, shape: cosine}}",
        "optimizer.lr={from: 1e-3, to: 1e-4, steps: 3}", "optimizer.weight_decay={from: 0.1, to: 0, steps: 4}",
    )  # fmt: skip
    whole = run(tmp_path / "whole", "steps=4", *changes)
    run(tmp_path / "resumed", "steps=4", *changes, display=Stopping(2))
    resumed = run(tmp_path / "resumed", "steps=4", *changes, resume=True)
    assert same(whole.weights(), resumed.weights()) and whole.sampled() == resumed.sampled()
    one, other = ([_scheduled(line) for line in folder.lines("metrics.jsonl")] for folder in (whole, resumed))
    assert one == other and len(one) == 4


@pytest.mark.parametrize("stop", [1, 3])
def test_a_resumed_run_samples_and_scores_at_the_temperature_of_each_step(run, tmp_path, observed, stop):
    warming = "sampling.temperature={from: 0.6, to: 1.0, steps: 2, after: 1}"
    run(tmp_path / "one", f"steps={stop}", warming)
    folder = run(tmp_path / "one", "steps=4", warming, resume=True)
    assert observed.scored == pytest.approx([0.6, 0.6, 0.8, 1.0])
    assert sorted(set(observed.sampled)) == pytest.approx([0.6, 0.8, 1.0])
    assert [line["schedule/sampling.temperature"] for line in folder.lines("metrics.jsonl")] == observed.scored


def test_a_resumed_run_refuses_another_schedule(run, tmp_path):
    run(tmp_path / "one", "steps=1", COOLING)
    with pytest.raises(RunError, match=r"sampling.temperature.to \(0.5 -> 0.7\)"):
        run(tmp_path / "one", "steps=2", "sampling.temperature={from: 1.0, to: 0.7, steps: 2}", resume=True)


def test_an_evaluation_uses_the_values_of_its_step(run, tmp_path):
    """The verifier is strict at first; after two steps it lets everything pass."""
    plugin = tmp_path / "lenient.py"
    plugin.write_text(LENIENT)
    changes = (
        "verifier={name: lenient, truncated: score, least: {from: 1, to: 0, steps: 2, shape: step}}",
        "evaluation.problems=2",
    )
    folder = run(tmp_path / "one", "steps=2", *changes, plugins=[plugin])
    means = [line["results"][0]["mean"] for line in folder.lines("evaluations.jsonl")]
    assert means == [0.0, 1.0]
    manager = PluginManager([plugin])
    recipe = load_recipe(folder.path / "recipe.yaml", registry=manager.registry)
    results, _ = evaluate_model(recipe, plugins=manager, subject=str(folder.path), display=Display())
    assert results[0].mean == 1.0


def test_a_component_given_as_an_object_follows_its_schedule(tiny, tmp_path):
    seen: list[float] = []

    class Counting(Gate):
        name = "counting"

        class Config(Gate.Config):
            """One number."""

            share: float = 1.0
            """Any number."""

        def decide(self, group):
            seen.append(self.config.share)
            return GateDecision(outcome="all", passed=tuple(Passed(index=r.index) for r in group.rollouts))

    gate = Counting(Counting.Config.model_validate({"share": {"from": 1, "to": 3, "steps": 2}}))
    changes = [change for change in tiny if not change.startswith("gate=")]
    result = train("rosd", overrides=[*changes, "steps=3"], profile="micro", components={"gate": gate}, out=tmp_path, name="a")
    assert seen == [1.0, 1.0, 2.0, 2.0, 3.0, 3.0]
    assert [line["schedule/gate.share"] for line in result.metrics] == [1.0, 2.0, 3.0]
    assert "from: 1" in (result.path / "recipe.yaml").read_text()


def test_an_objective_reads_the_value_of_the_step(run, tmp_path, monkeypatch):
    seen: list[float] = []
    surrogate: Callable[..., Any] = PolicyGradient.surrogate
    monkeypatch.setattr(
        PolicyGradient, "surrogate", lambda self, *scores: seen.append(self.config.clip_high) or surrogate(self, *scores)
    )
    run(tmp_path / "one", "steps=3", "objective={name: policy_gradient, clip_high: {from: 0.5, to: 0.25, steps: 2}}")
    assert sorted(set(seen), reverse=True) == [0.5, 0.375, 0.25] and seen == sorted(seen, reverse=True)


def _scheduled(line: dict[str, Any]) -> dict[str, float]:
    return {name: value for name, value in line.items() if name.startswith(("schedule/", "train/lr"))}
