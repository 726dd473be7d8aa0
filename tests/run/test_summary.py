"""The summary of a run, and the records of its samples."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from rosd_kit.display import Display
from rosd_kit.evaluation.results import SuiteResult
from rosd_kit.plugins.manager import PluginManager
from rosd_kit.recipe import load_recipe
from rosd_kit.run.summary import next_steps, oracle_totals, summarise
from rosd_kit.seeds import stable_seed


class RecordingDisplay(Display):
    def __init__(self) -> None:
        self.summary = None
        self.phases: list[str] = []
        self.metrics: list[dict] = []

    def phase(self, name):
        self.phases.append(name)

    def step(self, step, metrics):
        self.metrics.append(dict(metrics))

    def finish(self, summary):
        self.summary = summary


def result(scores: dict[str, float]) -> SuiteResult:
    mean = sum(scores.values()) / len(scores)
    return SuiteResult(
        suite="s",
        in_domain=True,
        mean=mean,
        low=0.0,
        high=1.0,
        problems=len(scores),
        samples=1,
        format_rate=1.0,
        mean_tokens=1.0,
        scores=scores,
    )


def summary(before=(), after=(), records=(), warnings=()):
    return summarise(
        name="rosd",
        folder=Path("runs/rosd-1"),
        steps=3,
        seconds=1.0,
        records=records,
        before=before,
        after=after,
        warnings=warnings,
    )


@pytest.fixture(scope="module")
def observed_run(run, tmp_path_factory):
    display = RecordingDisplay()
    path = tmp_path_factory.mktemp("runs") / "run"
    changes = ("steps=2", "evaluation.problems=2", "evaluation.samples=2", "evaluation.every=1", "localizer=error_quote")
    changes += ("sampling.max_new_tokens=40", "reflector=tutor", "checkpoint.every=0")
    return display, run(path, *changes, display=display)


def test_a_display_gets_every_phase_and_its_speed(observed_run):
    display, _ = observed_run
    assert {"loading", "generate", "reflect", "train", "sync", "evaluate", "save"} <= set(display.phases)
    for metrics in display.metrics:
        for phase in ("generate", "train"):
            assert metrics[f"speed/{phase}"] == pytest.approx(metrics[f"tokens/{phase}"] / metrics[f"time/{phase}"])


def test_the_summary_compares_the_first_evaluation_with_the_last(observed_run):
    display, folder = observed_run
    evaluations = folder.lines("evaluations.jsonl")
    assert [line["step"] for line in evaluations] == [0, 1, 2]
    comparisons = display.summary.comparisons
    assert [c.before.to_json() for c in comparisons] == evaluations[0]["results"]
    assert [c.after.to_json() for c in comparisons] == evaluations[2]["results"]
    assert all(set(c.before.scores) == set(c.after.scores) and len(c.after.scores) == 2 for c in comparisons)
    assert display.summary.folder == str(folder.path)


def test_the_summary_counts_the_oracle_over_all_steps(observed_run):
    display, folder = observed_run
    lines = folder.lines("metrics.jsonl")
    names = {name for line in lines for name in line if name.startswith("oracle/")}
    assert display.summary.localisation == {name: sum(line.get(name, 0.0) for line in lines) for name in names}


def test_suggested_commands_can_be_pasted(observed_run):
    display, folder = observed_run
    assert len(display.summary.next_steps) > 1
    assert all(line.startswith("rosd-kit ") for line in display.summary.next_steps)
    assert any(str(folder.path) in line for line in display.summary.next_steps)


def test_a_sample_record_has_the_rollout_from_prompt_to_weights(observed_run):
    _, folder = observed_run
    records = [record for n in (1, 2) for record in folder.lines(f"samples/step-{n:06d}.jsonl")]
    assert len(records) == 8
    for record in records:
        assert len(record["weights"]) == len(record["token_ids"]) == len(record["token_spans"])
        assert all(record["response"][start:end] is not None for start, end in record["token_spans"])
        assert record["messages"][0]["content"] and record["answer"]
        assert record["score"] in (0.0, 1.0)
        assert all(isinstance(prompt, str) and prompt for prompt in record["teacher_prompts"])
        if record["true_error"]:
            start, end = record["true_error"]
            assert 0 <= start < end <= len(record["response"])
            assert not record["success"]


def test_recorded_losses_per_token_add_up_to_the_loss(observed_run):
    _, folder = observed_run
    for line in folder.lines("metrics.jsonl"):
        records = folder.lines(f"samples/step-{line['step']:06d}.jsonl")
        tokens = [pair for r in records if r["divergence"] for pair in zip(r["weights"], r["divergence"], strict=True)]
        assert sum(w > 0 for w, _ in tokens) == line["train/weighted_tokens"]
        assert sum(w * d for w, d in tokens) / sum(w for w, _ in tokens) == pytest.approx(line["train/loss"], rel=1e-3)
        gains = [
            t - s
            for r in records if r["divergence"]
            for w, t, s in zip(r["weights"], r["teacher_logprobs"], r["student_logprobs"], strict=True) if w
        ]  # fmt: skip
        assert sum(gains) / len(gains) == pytest.approx(line["train/teacher_gain"], rel=1e-2, abs=1e-4)
        assert all(r["student_prompt"] and r["suite"] == "sums" for r in records)


def test_counts_are_summed_and_values_that_are_no_numbers_left_out():
    records = [{"step": 1, "oracle/missed": 2.0}, {"step": 2, "oracle/missed": 1.0, "oracle/quote_asked": None, "loss": 3.0}]
    assert oracle_totals(records) == {"oracle/missed": 3.0}


def test_the_difference_is_paired():
    [comparison] = summary(before=[result({"a": 0.0, "b": 1.0})], after=[result({"b": 1.0, "a": 1.0})]).comparisons
    assert comparison.difference.mean == 0.5


def test_evaluations_of_different_problems_are_a_warning_at_the_end_of_a_run():
    shown = summary(before=[result({"a": 0.0})], after=[result({"a": 0.0, "b": 1.0})], warnings=["earlier"])
    assert shown.comparisons == ()
    assert shown.warnings[0] == "earlier"
    assert "evaluated on different problems" in shown.warnings[1]


def test_without_evaluations_there_is_no_comparison():
    assert summary().comparisons == summary(after=[result({"a": 1.0})]).comparisons == ()


def test_seeds_are_the_same_in_every_process_and_differ_by_every_part():
    code = "from rosd_kit.seeds import stable_seed; print(stable_seed('rollout', 3, 'p-1', 0))"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(other.stdout) == stable_seed("rollout", 3, "p-1", 0)
    seeds = {stable_seed(kind, step, index) for kind in "ab" for step in range(20) for index in range(20)}
    assert len(seeds) == 800
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert stable_seed("a", "bc") != stable_seed("ab", "c")


def test_the_command_line_prints_only_json(tmp_path, tiny, capfd):
    from rosd_kit.cli import main

    changes = ["steps=2", "evaluation.problems=1", "evaluation.samples=1", "--out", str(tmp_path), "--name", "run", "--json"]
    with pytest.raises(SystemExit) as ended:
        main(["run", "rosd", *tiny, *changes])
    assert not ended.value.code
    shown = capfd.readouterr()
    events = [json.loads(line)["event"] for line in shown.out.splitlines()]
    assert events == ["start", "evaluation", "step", "step", "evaluation", "finish"]
    assert "Loading weights" not in shown.err
    assert "Writing model shards" not in shown.err


def test_a_quiet_command_prints_only_the_result(tmp_path, tiny, capfd):
    from rosd_kit.cli import main

    with pytest.raises(SystemExit):
        main(["run", "rosd", *tiny, "steps=1", "--out", str(tmp_path), "--name", "run", "--quiet"])
    shown = capfd.readouterr()
    assert shown.out.startswith("\nrosd: 1 step in 0:0")
    assert f"run folder: {tmp_path / 'run'}" in shown.out
    assert shown.err == ""


@pytest.mark.parametrize(
    ("name", "shown", "absent"),
    [
        ("rosd", ["reflector=oracle", "localizer=full"], []),
        ("grpo", ["rosd-kit components"], ["reflector=oracle", "localizer=full"]),
    ],
)
def test_suggested_commands_fit_the_recipe(name, shown, absent):
    recipe = load_recipe(name, registry=PluginManager(selection="builtin").registry)
    lines = "\n".join(next_steps(Path("runs/x"), recipe, knows_truth=True, trained=True))
    assert "rosd-kit report runs/x\nrosd-kit eval runs/x" in lines
    assert all(word in lines for word in shown) and not any(word in lines for word in absent)


def test_after_a_run_without_a_sample_no_other_component_is_suggested():
    recipe = load_recipe("rosd", registry=PluginManager(selection="builtin").registry)
    lines = next_steps(Path("runs/x"), recipe, knows_truth=True, trained=False)
    assert [line.split("    #")[0] for line in lines] == ["rosd-kit report runs/x", "rosd-kit run runs/x/recipe.yaml --dry-run"]
