"""A run's files, and going on with it bit for bit."""

from __future__ import annotations

import json
import random

import pytest

from rosd_kit.display import Display
from rosd_kit.errors import RunError
from rosd_kit.run import loop


class WarningList(Display):
    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warning(self, text: str) -> None:
        self.warnings.append(text)


@pytest.fixture(scope="module")
def two_steps(run, tmp_path_factory):
    return run(tmp_path_factory.mktemp("runs") / "two", "steps=2", "evaluation.problems=2", "evaluation.samples=1")


def test_three_steps_and_three_more_after_a_resume_equal_six_steps(run, same, tmp_path):
    measured = ("evaluation.problems=1", "evaluation.samples=1", "evaluation.every=3")
    whole = run(tmp_path / "whole", "steps=6", *measured)
    run(tmp_path / "resumed", "steps=3", *measured)
    random.seed(99)
    resumed = run(tmp_path / "resumed", "steps=6", *measured, resume=True)
    assert same(whole.weights(), resumed.weights())
    assert whole.sampled() == resumed.sampled()
    assert whole.lines("evaluations.jsonl") == resumed.lines("evaluations.jsonl")
    assert [line["step"] for line in whole.lines("evaluations.jsonl")] == [0, 3, 6]
    assert [line["step"] for line in resumed.lines("metrics.jsonl")] == list(range(1, 7))
    assert not same(whole.student(5), whole.student(6))


@pytest.mark.parametrize(
    "changes",
    [
        ("optimizer.name=muon",),
        ("teacher=ema",),
        ("teacher=trust_region",),
        ("model.lora.rank=2", "model.lora.dropout=0.5"),
        ("reflector=tutor", "optimizer.warmup_steps=4"),
    ],
    ids="{0[0]}".format,
)
def test_every_kind_of_state_is_saved(run, same, tmp_path, changes):
    whole = run(tmp_path / "whole", "steps=3", *changes)
    run(tmp_path / "resumed", "steps=2", *changes)
    resumed = run(tmp_path / "resumed", "steps=3", *changes, resume=True)
    assert same(whole.weights(), resumed.weights())
    assert whole.sampled() == resumed.sampled()


def test_a_failed_evaluation_loses_no_step_and_is_repeated_on_resume(run, same, tmp_path, monkeypatch):
    measured = ("steps=2", "checkpoint.every=0", "evaluation.problems=1", "evaluation.samples=1", "evaluation.every=1")
    whole = run(tmp_path / "whole", *measured)
    evaluate, calls = loop.evaluate_suites, []

    def failing(**options):
        calls.append(options)
        if len(calls) in (2, 4):  # after the first step and, in the run that goes on, after the second
            raise RunError("the disk of the data is gone")
        return evaluate(**options)

    monkeypatch.setattr(loop, "evaluate_suites", failing)
    for resume in (False, True):
        with pytest.raises(RunError, match="disk of the data"):
            run(tmp_path / "resumed", *measured[:1], "checkpoint.every=1", *measured[2:], resume=resume)
    resumed = run(tmp_path / "resumed", *measured[:1], "checkpoint.every=1", *measured[2:], resume=True)
    assert len(calls) == 5
    assert whole.lines("evaluations.jsonl") == resumed.lines("evaluations.jsonl")
    assert same(whole.weights(), resumed.weights())


def test_a_run_folder_has_the_documented_files(two_steps):
    left = {path.name for path in two_steps.path.iterdir()}
    assert left == {
        ".lock", "recipe.yaml", "environment.json", "metrics.jsonl", "evaluations.jsonl", "samples", "checkpoints", "model",
    }  # fmt: skip
    assert [p.name for p in sorted((two_steps.path / "checkpoints").iterdir())] == ["step-000001", "step-000002"]
    assert [line["step"] for line in two_steps.lines("evaluations.jsonl")] == [0, 2]


def test_resuming_a_finished_run_changes_only_the_environment(run, same, two_steps):
    weights, metrics = two_steps.weights(), (two_steps.path / "metrics.jsonl").read_text()
    began = json.loads((two_steps.path / "environment.json").read_text())
    run(two_steps.path, "steps=2", "evaluation.problems=2", "evaluation.samples=1", resume=True)
    now = json.loads((two_steps.path / "environment.json").read_text())
    assert same(weights, two_steps.weights())
    assert (two_steps.path / "metrics.jsonl").read_text() == metrics
    assert now.pop("resumed")[0] == began == now


def test_a_folder_with_a_run_is_not_overwritten(run, two_steps):
    before = (two_steps.path / "metrics.jsonl").read_text()
    with pytest.raises(RunError, match=r"already holds a run.*--resume"):
        run(two_steps.path, "steps=2")
    assert (two_steps.path / "metrics.jsonl").read_text() == before


def test_resuming_with_another_recipe_is_refused_with_the_different_fields(run, two_steps):
    with pytest.raises(RunError, match=r"optimizer\.lr \(0\.0003 -> 0\.1\), divergence\.name \('jsd' -> 'reverse_kl'\)"):
        run(two_steps.path, "steps=4", "optimizer.lr=0.1", "divergence=reverse_kl", "samples.every=3", resume=True)


def test_fewer_steps_than_were_taken_are_refused(run, two_steps):
    with pytest.raises(RunError, match=r"steps: the run already took 2 steps, more than the 1"):
        run(two_steps.path, "steps=1", resume=True)


def test_a_plugin_that_changed_since_the_last_start_is_warned_of(run, tmp_path):
    plugin = tmp_path / "mine.py"
    code = "import rosd_kit as rk\n\n@rk.hookimpl\ndef rosd_kit_run_start(run): ...\n"
    plugin.write_text(code)
    run(tmp_path / "run", "steps=1", plugins=[plugin])
    warned = WarningList()
    run(tmp_path / "run", "steps=1", plugins=[plugin], resume=True, display=warned)
    assert warned.warnings == []
    plugin.write_text(code + "\n")
    run(tmp_path / "run", "steps=1", plugins=[plugin], resume=True, display=warned)
    assert len(warned.warnings) == 1
    assert "may not continue bit for bit: plugins:" in warned.warnings[0]


def test_a_number_of_steps_given_on_resume_is_kept(run, tmp_path):
    run(tmp_path / "run", "steps=1")
    folder = run(tmp_path / "run", "steps=2", resume=True)
    assert "\nsteps: 2\n" in (folder.path / "recipe.yaml").read_text()


def test_a_damaged_checkpoint_is_reported_and_without_it_the_previous_one_is_used(run, same, tmp_path):
    folder = run(tmp_path / "run", "steps=2")
    weights = folder.weights()
    newest = folder.path / "checkpoints/step-000002"
    (newest / "student.safetensors").write_bytes((newest / "student.safetensors").read_bytes()[:-100])
    with pytest.raises(RunError, match=r"step-000002/student\.safetensors: the checkpoint is damaged.*Remove .*step-000002 "):
        run(tmp_path / "run", "steps=2", resume=True)
    newest.rename(tmp_path / "away")
    run(tmp_path / "run", "steps=2", resume=True)
    assert same(weights, folder.weights())


def test_without_a_checkpoint_a_resumed_run_starts_over(run, same, tmp_path):
    folder = run(tmp_path / "run", "steps=2")
    weights, sampled = folder.weights(), folder.sampled()
    (folder.path / "checkpoints").rename(tmp_path / "away")
    run(tmp_path / "run", "steps=2", resume=True)
    assert same(weights, folder.weights())
    assert folder.sampled() == sampled


def test_the_same_seed_is_the_same_run_and_another_is_not(run, same, tmp_path):
    one, again, other = (run(tmp_path / f"{i}", "steps=2", f"seed={seed}") for i, seed in enumerate((5, 5, 6)))
    assert same(one.weights(), again.weights())
    assert one.sampled() == again.sampled()
    assert not same(one.weights(), other.weights())
    assert one.sampled() != other.sampled()


def test_rollouts_of_a_group_differ(run, tmp_path):
    folder = run(tmp_path / "run", "steps=2", "model.path=micro-blank", "group_size=4")
    for step in folder.sampled().values():
        assert len(step) == 8
        assert len(set(map(tuple, step))) == 8
    first, second = folder.sampled().values()
    assert not set(map(tuple, first)) & set(map(tuple, second))


def test_a_stricter_watch_warns_once_of_earlier_steps_on_resume(run, tmp_path):
    loose, strict = ("watch.patience=2", "watch.entropy=null"), ("watch.patience=2", "watch.entropy=0.9")
    lists = [WarningList() for _ in range(3)]
    run(tmp_path / "run", "steps=2", *loose, display=lists[0])
    for display in lists[1:]:
        run(tmp_path / "run", "steps=3", "checkpoint.every=1", *strict, display=display, resume=True)
    assert [sum("entropy fell" in warning for warning in display.warnings) for display in lists] == [0, 1, 0]


COSINE = ("optimizer.decay=cosine", "optimizer.lr=1e-3")


def test_more_steps_on_resume_do_not_change_the_learning_rate_schedule_unasked(run, same, tmp_path):
    whole = run(tmp_path / "whole", "steps=4", *COSINE, "optimizer.schedule_steps=2")
    run(tmp_path / "one", "steps=2", *COSINE)
    with pytest.raises(RunError) as refused:
        run(tmp_path / "one", "steps=4", *COSINE, resume=True)
    assert "4 steps instead of 2: update 3 has the rate 5e-05 on the run's own curve and 0.000525 on the new" in str(
        refused.value
    )
    assert "optimizer.schedule_steps=2" in str(refused.value)
    longer = run(tmp_path / "one", "steps=4", *COSINE, "optimizer.schedule_steps=2", resume=True)
    assert [line["train/lr"] for line in longer.lines("metrics.jsonl")] == pytest.approx([1e-3, 5.25e-4, 5e-5, 5e-5])
    assert same(whole.weights(), longer.weights())


def test_a_learning_rate_schedule_for_more_steps_continues_on_resume(run, same, tmp_path):
    whole = run(tmp_path / "whole", "steps=3", *COSINE)
    run(tmp_path / "one", "steps=2", *COSINE, "optimizer.schedule_steps=3")
    longer = run(tmp_path / "one", "steps=3", *COSINE, "optimizer.schedule_steps=3", resume=True)
    assert same(whole.weights(), longer.weights())
    with pytest.raises(RunError, match=r"optimizer.decay=cosine would run over 5 steps instead of 3"):
        run(tmp_path / "one", "steps=5", *COSINE, "optimizer.schedule_steps=5", resume=True)
