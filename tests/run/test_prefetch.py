"""The next batch is sampled while this one trains: with older weights, which the checkpoint need not keep."""

from __future__ import annotations

import json
import threading

import pytest
import torch

from rosd_kit.components.rollouts import TransformersEngine
from rosd_kit.components.tasks import Micro
from rosd_kit.errors import RecipeError
from rosd_kit.model.student import Student
from rosd_kit.pipeline.prefetch import Prefetcher
from rosd_kit.settings import ModelSettings
from rosd_kit.training.checkpoint import list_checkpoints, load_checkpoint
from rosd_kit.types import Completion, Group, Rollout, StepBatch, Verdict

AHEAD = ("sampling.prefetch=1", "optimizer.lr=1e-3", "steps=4")


def batch_of(step: int) -> StepBatch:
    """Return a batch with numbers that are easily lost on the way to a file."""
    problem = Micro().train_batch(step=step, count=1, seed=0)[0]
    completion = Completion(
        prompt_ids=(1, 2), token_ids=(3,), logprobs=(-1 / 3,), text="\udc80x", token_spans=((0, 1),), finish_reason="stop"
    )
    rollout = Rollout(index=0, completion=completion, verdict=Verdict(score=1e-300, success=True, feedback=""))
    group = Group(problem=problem, rollouts=(rollout,))
    return StepBatch(samples=(), groups=(group,), traces=(), metrics={"a/b": float("inf")})


def problems(step: int):
    return Micro().train_batch(step=step, count=1, seed=0)


def test_a_prefetched_batch_is_restored_from_a_checkpoint():
    ahead, resumed = Prefetcher(batch_of, enabled=True), Prefetcher(batch_of, enabled=True)
    ahead.begin(3)
    assert ahead.wait() >= 0
    resumed.load_state(json.loads(json.dumps(ahead.state())), problems)
    found = resumed.take(3)
    assert found == batch_of(3) and found == ahead.take(3)
    assert found.groups[0].problem.meta["instance"] == problems(3)[0].meta["instance"]
    assert ahead.state() is None and ahead.take(3) is None


def test_a_batch_of_another_step_is_not_used():
    ahead = Prefetcher(batch_of, enabled=True)
    ahead.begin(3)
    ahead.wait()
    assert ahead.take(4) is None


def test_without_prefetching_nothing_is_sampled_ahead():
    ahead = Prefetcher(batch_of, enabled=False)
    ahead.begin(1)
    ahead.wait()
    assert ahead.take(1) is None


def test_an_error_in_the_sampling_thread_is_raised_by_wait():
    def fail(step):
        raise ValueError(f"step {step}")

    ahead = Prefetcher(fail, enabled=True)
    ahead.begin(2)
    with pytest.raises(ValueError, match="step 2"):
        ahead.wait()


def test_the_next_batch_is_sampled_during_the_update_with_the_weights_before_it(run, tmp_path, monkeypatch):
    """The update waits until the sampling of the next batch has begun, which then waits for the update to be over."""
    from rosd_kit.training.optimizer import Optimizer

    begun, updated, overlaps = threading.Event(), threading.Event(), []
    generate, update = TransformersEngine.generate, Optimizer.step

    def sampling(engine, requests, **options):
        if threading.current_thread() is not threading.main_thread():
            begun.set()
            overlaps.append(updated.wait(60))
        return generate(engine, requests, **options)

    def updating(optimizer, loss, **options):
        if optimizer.step_count == 0:
            assert begun.wait(60)
        outcome = update(optimizer, loss, **options)
        updated.set()
        return outcome

    monkeypatch.setattr(TransformersEngine, "generate", sampling)
    monkeypatch.setattr(Optimizer, "step", updating)
    found = run(tmp_path / "run", *AHEAD)
    lines = found.lines("metrics.jsonl")
    assert overlaps[0] and [line["rollout/staleness"] for line in lines] == [0.0, 1.0, 1.0, 1.0]
    assert lines[0]["train/engine_mismatch"] < 1e-5  # fresh: trainer and sampler have the same weights
    assert lines[1]["train/engine_mismatch"] > 1e-3
    assert all(line["time/prefetch"] >= 0 for line in lines)


def test_the_second_batch_is_sampled_with_the_first_weights(run, tmp_path):
    """With a learning rate that changes nothing a run that looks ahead is the run that does not."""
    still = ("optimizer.lr=1e-30", "optimizer.weight_decay=0", "steps=3")
    ahead, plain = run(tmp_path / "ahead", *still, "sampling.prefetch=1"), run(tmp_path / "plain", *still)
    assert ahead.sampled() == plain.sampled() and len(ahead.sampled()) == 3
    moved = run(tmp_path / "moved", *AHEAD, "steps=2"), run(tmp_path / "old", "steps=2", "optimizer.lr=1e-30")
    assert moved[0].sampled() == moved[1].sampled()  # the second batch too is that of the untrained weights


def test_a_run_that_prefetches_resumes_bit_for_bit(run, same, tmp_path):
    whole = run(tmp_path / "whole", *AHEAD)
    run(tmp_path / "parts", *AHEAD, "steps=4", "checkpoint.keep=9")
    folder = tmp_path / "parts"
    for name in ("step-000003", "step-000004"):
        for file in (folder / "checkpoints" / name).iterdir():
            file.unlink()
        (folder / "checkpoints" / name).rmdir()
    assert load_checkpoint(list_checkpoints(folder / "checkpoints")[-1]).state["prefetched"]["step"] == 2
    parts = run(folder, *AHEAD, resume=True)
    assert same(parts.weights(), whole.weights())
    assert parts.sampled() == whole.sampled() and len(whole.sampled()) == 4
    names = ("train/loss", "rollout/staleness", "train/ratio_max", "rollout/length")
    assert [[line[name] for name in names] for line in parts.lines("metrics.jsonl")] == [
        [line[name] for name in names] for line in whole.lines("metrics.jsonl")
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("correction=none", "sampling.prefetch: 1 needs a correction for older rollouts. Provided by: correction truncated"),
        ("rollout=reference", "sampling.prefetch: 1 needs an engine that samples while the student trains. Provided by: "),
    ],
)
def test_prefetching_is_refused_without_a_correction_or_overlap(run, tmp_path, change, message):
    with pytest.raises(RecipeError, match=message):
        run(tmp_path / "run", "sampling.prefetch=1", change)


def test_a_server_that_shares_the_trainers_memory_does_not_overlap():
    from rosd_kit.components.rollouts import SGLangEngine

    assert "overlap" in SGLangEngine.offers(SGLangEngine.Config())
    assert "overlap" not in SGLangEngine.offers(SGLangEngine.Config(colocated=True))


def test_the_samplers_policy_is_the_sampler_itself():
    student = Student.load(ModelSettings(path="micro", device="cpu"), keep_initial=False, keep_sampler=True)
    assert student.sampler is not student and student.sampler.sampler is student.sampler


def test_the_sampler_keeps_its_weights_until_the_next_sync(run, tmp_path):
    from rosd_kit.model.student import Student
    from rosd_kit.settings import ModelSettings

    student = Student.load(ModelSettings(path="micro", device="cpu"), keep_initial=True, keep_sampler=True)
    before = {name: weight.clone() for name, weight in student.sampler.state().items()}
    with torch.no_grad():
        for weight in student.state().values():
            weight.add_(1.0)
    assert all(weight.equal(before[name]) for name, weight in student.sampler.state().items())
    student.sampler.follow(student)
    assert all(weight.equal(student.state()[name]) for name, weight in student.sampler.state().items())


def test_initial_weights_are_shared_but_not_the_modules_whose_attention_each_thread_sets():
    student = Student.load(ModelSettings(path="micro", device="cpu"), keep_initial=True, keep_sampler=True)
    with student.initial() as mine, student.sampler.initial() as theirs:
        assert mine is not theirs and mine.config is not theirs.config
        mine.config._attn_implementation = "eager"
        assert theirs.config._attn_implementation != "eager"
        pairs = list(zip(mine.parameters(), theirs.parameters(), strict=True))
        assert pairs and all(one.data_ptr() == other.data_ptr() for one, other in pairs)
