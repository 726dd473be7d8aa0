"""A real server agrees with the trainer: the same tokens, log-probs and finish reasons."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from rosd_kit.errors import EngineError
from rosd_kit.serving.logprob_check import LogprobGap, trainer_logprobs
from rosd_kit.serving.weight_transfer import LabeledWeights
from rosd_kit.types import Sampling
from tests.sglang.conftest import greedy, requests_for, train, transformers_engine


def test_greedy_tokens_equal_those_of_transformers(student, engine_at):
    engine = engine_at(student)
    completions, expected = greedy(student, engine), greedy(student, transformers_engine(student))
    assert [c.token_ids for c in completions] == [c.token_ids for c in expected]
    assert [(c.text, c.token_spans, c.finish_reason) for c in completions] == [
        (c.text, c.token_spans, c.finish_reason) for c in expected
    ]
    assert LogprobGap.between([c.logprobs for c in completions], [c.logprobs for c in expected]).max < 1e-4
    assert all(c.token_ids[-1] in student.end_ids for c in completions if c.finish_reason == "stop")


@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_sampled_log_probs_equal_the_trainers_at_the_sampling_temperature(student, engine_at, temperature):
    completions = engine_at(student).generate(requests_for(student, 4, per_problem=8, temperature=temperature))
    assert len({c.token_ids for c in completions}) > 4, "sampled responses differ"
    prompts, responses = [c.prompt_ids for c in completions], [c.token_ids for c in completions]
    trainer = trainer_logprobs(student.model, prompts, responses, temperature=temperature)
    assert LogprobGap.between([c.logprobs for c in completions], trainer).max < 1e-4


def test_limits_of_sampling_are_obeyed(student, engine_at):
    """At most `top_k` of the likeliest tokens, none below `min_p` of the likeliest; one token left is greedy."""
    engine, hot = engine_at(student), Sampling(temperature=5.0, max_new_tokens=24)  # so hot that many tokens are unlikely ones
    requests = requests_for(student, 3, per_problem=4)

    def sampled(**limits):
        return engine.generate([replace(request, sampling=replace(hot, **limits)) for request in requests])

    def ranks_and_shares(completions):
        for completion in completions:
            ids = torch.tensor([[*completion.prompt_ids, *completion.token_ids]])
            with torch.no_grad():
                logits = student.model(ids).logits[0, len(completion.prompt_ids) - 1 : -1]
            probs = (logits / hot.temperature).softmax(-1)
            own = probs.gather(1, torch.tensor(completion.token_ids)[:, None])
            yield from zip((probs > own).sum(1).tolist(), (own[:, 0] / probs.max(1).values).tolist(), strict=True)

    greedy = [c.token_ids for c in engine.generate([replace(r, sampling=replace(hot, temperature=0.0)) for r in requests])]
    assert [c.token_ids for c in sampled(top_k=1)] == [c.token_ids for c in sampled(min_p=1.0)] == greedy
    assert max(rank for rank, _ in ranks_and_shares(sampled(top_k=2))) == 1
    assert min(share for _, share in ranks_and_shares(sampled(min_p=0.2))) >= 0.2 - 1e-4
    free = list(ranks_and_shares(sampled()))
    assert max(rank for rank, _ in free) > 1 and min(share for _, share in free) < 0.2


def test_a_stop_string_ends_a_response_and_stays_in_it(student, engine_at):
    engine = engine_at(student)
    (request,) = requests_for(student, 1, temperature=0.0)
    (whole,) = engine.generate([request])
    word = whole.text.split()[5]
    (stopped,) = engine.generate([replace(request, sampling=replace(request.sampling, stop=(f" {word}",)))])
    assert stopped.finish_reason == "stop" and stopped.text.endswith(f" {word}") and stopped.text.count(f" {word}") == 1
    assert len(stopped.token_ids) < len(whole.token_ids) and stopped.token_ids == whole.token_ids[: len(stopped.token_ids)]


def test_ids_that_are_masked_are_never_sampled(student, engine_at):
    engine = engine_at(student)
    requests = [replace(r, sampling=replace(r.sampling, max_new_tokens=12)) for r in requests_for(student, 4, temperature=0.0)]
    likeliest = sorted({completion.token_ids[0] for completion in engine.generate(requests)})
    engine._sender.never = likeliest
    masked = engine.generate(requests)
    assert all(set(completion.token_ids).isdisjoint(likeliest) for completion in masked)
    with torch.no_grad():
        for request, completion in zip(requests, masked, strict=True):
            logits = student.model(torch.tensor([request.prompt_ids])).logits[0, -1]
            logits[likeliest] = -torch.inf
            assert completion.token_ids[0] == int(logits.argmax())
            assert completion.logprobs[0] == pytest.approx(float(logits.log_softmax(-1).max()), abs=1e-3)


def test_a_budget_cuts_a_response_and_a_prompt_too_long_is_overlong(student, engine_at):
    first, second = requests_for(student, 2, temperature=0.0)
    short = replace(first, sampling=Sampling(temperature=0.0, max_new_tokens=3))
    long = replace(second, prompt_ids=second.prompt_ids * 40)
    cut, overlong, complete = engine_at(student).generate([short, long, second])
    assert (len(cut.token_ids), cut.finish_reason) == (3, "length")
    assert (overlong.token_ids, overlong.finish_reason, overlong.prompt_ids) == ((), "overlong", long.prompt_ids)
    assert complete.finish_reason == "stop"


def test_a_response_is_cut_at_the_end_of_the_context(student, engine_at):
    engine = engine_at(student)
    (request,) = requests_for(student, 1, temperature=0.0)
    context = engine._pool.context_length
    filled = (request.prompt_ids * context)[: context - 2]
    (completion,) = engine.generate([replace(request, prompt_ids=filled)])
    assert 1 <= len(completion.token_ids) <= 2 and completion.finish_reason in ("length", "stop")


def test_an_id_outside_the_vocabulary_is_never_sent(student, engine_at):
    engine = engine_at(student)
    (request,) = requests_for(student, 1)
    with pytest.raises(EngineError, match=r"has the token id 212; the model's are 0 to 211"):
        engine.generate([replace(request, prompt_ids=(*request.prompt_ids, student.vocabulary))])
    assert greedy(student, engine, 1)[0].token_ids, "the server still runs"


def test_the_first_rollouts_are_compared_with_the_trainer(student, engine_at):
    engine = engine_at(student)
    engine.generate(requests_for(student, 2, per_problem=4))
    metrics = engine.metrics()
    assert 0 < metrics["engine/mismatch_greatest"] < 1e-4
    assert metrics["engine/mismatch_ratio_least"] <= 1.0 <= metrics["engine/mismatch_ratio_greatest"] < 1.001
    assert engine.metrics().get("engine/mismatch_greatest") is None, "each comparison is reported once"


def test_the_probe_notices_a_damaged_tensor(student, engine_at, monkeypatch):
    engine = engine_at(student)
    send = engine._pool._transfer.send

    async def send_damaged(weights, client, info):
        def tensors():
            for name, tensor in weights.tensors():
                yield name, tensor * 1.05 if name.endswith("layers.1.mlp.down_proj.weight") else tensor

        return await send(LabeledWeights(weights.label, tensors), client, info)

    monkeypatch.setattr(engine._pool._transfer, "send", send_damaged)
    train(student)
    with pytest.raises(EngineError, match="reports the new weights but does not compute with them"):
        engine.sync(student, 1)


def test_a_wrong_temperature_is_named(student, engine_at, monkeypatch):
    engine = engine_at(student)
    for replica in engine._pool.replicas:
        generate = replica.client.generate

        async def at_one(prompt_ids, sampling, *, _generate=generate, **options):
            return await _generate(prompt_ids, replace(sampling, temperature=1.0), **options)

        monkeypatch.setattr(replica.client, "generate", at_one)
    with pytest.raises(EngineError, match=r"Likely temperature: .* fit a temperature of 1\."):
        engine.generate(requests_for(student, 4, per_problem=2, temperature=0.5))
