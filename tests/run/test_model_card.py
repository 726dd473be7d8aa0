"""The card that lies beside an exported model: what it says, and what of this machine it does not say."""

from __future__ import annotations

import pytest
import yaml

from rosd_kit.evaluation.results import SuiteResult, compare
from rosd_kit.plugins.manager import PluginManager
from rosd_kit.recipe import load_recipe
from rosd_kit.run.model_card import model_card, write_model
from rosd_kit.run.records import EVALUATIONS
from tests.report.run_writer import RunWriter


@pytest.fixture(scope="module")
def recipe():
    registry = PluginManager(selection="builtin").registry
    return lambda *changes: load_recipe("rosd", changes, registry=registry)


def result(mean: float, suite: str = "sums") -> SuiteResult:
    scores = {f"{suite}-{index}": float(index < 20 * mean) for index in range(20)}
    return SuiteResult(
        suite=suite, in_domain=suite == "sums", mean=mean, low=mean - 0.2, high=mean + 0.1, problems=20, samples=1,
        format_rate=1.0, mean_tokens=9.0, scores=scores,
    )  # fmt: skip


def head_of(card: str) -> dict:
    return yaml.safe_load(card.split("---\n")[1])


def test_the_card_names_method_data_settings_and_both_evaluations_with_intervals(recipe):
    before, after = [result(0.4)], [result(0.9)]
    card = model_card(recipe("steps=7"), compare(before, after), after)
    for line in (
        "| reflector | tutor |",
        "| localizer | error_quote |",
        "| objective | distill |",
        "| steps | 7 of 16 problems x 8 rollouts |",
        "| data | task `micro` |",
        "| trained weights | all |",
    ):
        assert line in card.splitlines(), line
    change = compare(before, after)[0].difference
    moved = f"+50.0 ({100 * change.low:+.1f} .. {100 * change.high:+.1f}) *"
    assert f"| sums (trained) | 40.0 (20.0 .. 50.0) | 90.0 (70.0 .. 100.0) | {moved} |" in card
    assert "mean@1 over 20 problems per suite" in card and "do not include the variation between runs" in card
    assert head_of(card)["library_name"] == "transformers" and "base_model" not in head_of(card)


def test_an_interval_that_is_a_worst_case_bound_is_marked(recipe):
    same = [result(0.4)]
    card = model_card(recipe(), compare(same, same), same)
    change = compare(same, same)[0].difference
    assert f"| +0.0 ({100 * change.low:+.1f} .. {100 * change.high:+.1f}†) |" in card and "† all differences are equal" in card


def test_a_hub_model_is_the_base_model_and_an_adapter_is_one(recipe):
    hub = model_card(recipe("model.path=Qwen/Qwen3-1.7B", "model.lora={rank: 8, export: adapter}"))
    assert head_of(hub)["base_model"] == "Qwen/Qwen3-1.7B" and head_of(hub)["library_name"] == "peft"
    assert "a LoRA adapter of rank 8, alpha 32; the adapter alone is here" in hub and "It was not evaluated." in hub


def test_folders_of_this_machine_are_not_named(recipe, tmp_path):
    rows = tmp_path / "secret-client" / "rows.jsonl"
    model = tmp_path / "secret-client" / "a-model"
    model.mkdir(parents=True)
    changes = (
        f"task={{name: dataset, path: {rows}, prompt: '{{q}}', answer: '{{a}}'}}",
        "verifier=exact",
        f"model.path={model}",
    )
    card = model_card(recipe(*changes))
    assert "secret-client" not in card and "`rows.jsonl`" in card and "a-model" in card


def test_the_model_is_written_with_its_card_also_if_evaluations_cannot_be_compared(recipe, tmp_path):
    run = RunWriter(tmp_path / "run")
    run.evaluation(0, 0.4, 0.5)
    run.line(EVALUATIONS, {"step": 2, "results": [result(0.9, "other").to_json()]})
    folder = tmp_path / "model"

    def export(folder):
        folder.mkdir()
        (folder / "config.json").write_text("{}")

    write_model(folder, export=export, recipe=recipe("steps=2"), run=run.folder)
    assert sorted(file.name for file in folder.iterdir()) == ["README.md", "config.json"]
    assert "| other | 90.0 | 70.0 .. 100.0 |" in (folder / "README.md").read_text()
