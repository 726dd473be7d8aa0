"""The server says what the trainer says: the same tokens, the same log-probs, the same outcomes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from rosd_kit.errors import EngineError
from rosd_kit.sglang.logprob_check import LogprobGap, trainer_logprobs
from rosd_kit.sglang.weight_transfer import LabeledWeights
from rosd_kit.types import Sampling
from tests.sglang.conftest import greedy, move, of_transformers, requests_for


def test_greedy_tokens_are_those_of_transformers(student, engine_at):
    engine = engine_at(student)
    ours, theirs = greedy(student, engine), greedy(student, of_transformers(student))
    assert [c.token_ids for c in ours] == [c.token_ids for c in theirs]
    assert [(c.text, c.token_spans, c.finish_reason) for c in ours] == [
        (c.text, c.token_spans, c.finish_reason) for c in theirs
    ]
    assert LogprobGap.between([c.logprobs for c in ours], [c.logprobs for c in theirs]).max < 1e-4
    assert all(c.token_ids[-1] in student.end_ids for c in ours if c.finish_reason == "stop")


@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_log_probs_of_samples_are_the_trainers_at_the_sampling_temperature(student, engine_at, temperature):
    found = engine_at(student).generate(requests_for(student, 4, each=4, temperature=temperature))
    assert len({c.token_ids for c in found}) > 4, "sampled, so they differ"
    trainer = trainer_logprobs(
        student.model, [c.prompt_ids for c in found], [c.token_ids for c in found], temperature=temperature
    )
    assert LogprobGap.between([c.logprobs for c in found], trainer).max < 1e-4


def test_a_length_budget_cuts_and_a_prompt_too_long_is_an_outcome_in_its_place(student, engine_at):
    short, whole = requests_for(student, 2, temperature=0.0)
    short = replace(short, sampling=Sampling(temperature=0.0, max_new_tokens=3))
    long = replace(whole, prompt_ids=whole.prompt_ids * 40)
    cut, overlong, done = engine_at(student).generate([short, long, whole])
    assert (len(cut.token_ids), cut.finish_reason) == (3, "length")
    assert (overlong.token_ids, overlong.finish_reason, overlong.prompt_ids) == ((), "overlong", long.prompt_ids)
    assert done.finish_reason == "stop"


def test_a_prompt_that_nearly_fills_the_context_gets_the_room_that_is_left(student, engine_at):
    engine = engine_at(student)
    (request,) = requests_for(student, 1, temperature=0.0)
    context = engine._pool.context
    filled = (request.prompt_ids * context)[: context - 2]
    (found,) = engine.generate([replace(request, prompt_ids=filled)])
    assert 1 <= len(found.token_ids) <= 2 and found.finish_reason in ("length", "stop")


def test_an_id_outside_the_vocabulary_never_leaves(student, engine_at):
    engine = engine_at(student)
    (request,) = requests_for(student, 1)
    with pytest.raises(EngineError, match=r"holds the id 212, the model knows 0 to 211"):
        engine.generate([replace(request, prompt_ids=(*request.prompt_ids, student.vocabulary))])
    assert greedy(student, engine, 1)[0].token_ids, "and the server lives"


def test_the_first_rollouts_are_compared_and_reported(student, engine_at):
    engine = engine_at(student)
    engine.generate(requests_for(student, 2, each=4))
    told = engine.metrics()
    assert 0 < told["engine/mismatch_greatest"] < 1e-4
    assert told["engine/mismatch_ratio_least"] <= 1.0 <= told["engine/mismatch_ratio_greatest"] < 1.001
    assert engine.metrics().get("engine/mismatch_greatest") is None, "each comparison is reported once"


def test_a_perturbed_tensor_is_noticed(student, engine_at, monkeypatch):
    engine = engine_at(student)
    carry = engine._pool._carrier.carry

    async def carry_badly(weights, client, facts):
        def tensors():
            for name, tensor in weights.tensors():
                yield name, tensor * 1.05 if name.endswith("layers.1.mlp.down_proj.weight") else tensor

        return await carry(LabeledWeights(weights.label, tensors), client, facts)

    monkeypatch.setattr(engine._pool._carrier, "carry", carry_badly)
    move(student)
    with pytest.raises(EngineError, match="wears the label of the new weights but does not compute with them"):
        engine.sync(student, 1)


def test_a_wrong_temperature_is_named(student, engine_at, monkeypatch):
    engine = engine_at(student)
    for replica in engine._pool.replicas:
        generate = replica.client.generate

        async def at_one(prompt_ids, sampling, *, _generate=generate, **options):
            return await _generate(prompt_ids, replace(sampling, temperature=1.0), **options)

        monkeypatch.setattr(replica.client, "generate", at_one)
    with pytest.raises(EngineError, match=r"Likely temperature: .* fit a temperature of 1\."):
        engine.generate(requests_for(student, 4, each=2, temperature=0.5))
