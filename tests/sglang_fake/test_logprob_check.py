"""An engine that computes something else than the trainer is found out, and the message says what is wrong with it."""

from __future__ import annotations

import math

import pytest
import torch

from rosd_kit.errors import EngineError
from rosd_kit.sglang import logprob_check
from rosd_kit.sglang.logprob_check import LogprobGap, Tolerance, trainer_logprobs
from tests.sglang_fake import fake
from tests.sglang_fake.asking import expected, ids, requests_for, train
from tests.sglang_fake.brains import MicroBrain

WEIGHT = "model.layers.1.mlp.down_proj.weight"
COMPARING = {"every": 1, "probe": False}


def test_the_probe_names_the_server_whose_weights_are_damaged(serve, engine_at, student):
    good, bad = serve(), serve()
    engine = engine_at(good, bad, check={"every": 0, "probe": True})
    assert engine.metrics()["engine/probe_max"] < 1e-4
    bad.brain.perturbed = WEIGHT
    train(student, 0.01)
    with pytest.raises(EngineError) as error:
        engine.sync(student, 1)
    said = str(error.value)
    assert bad.url in said and good.url not in said
    assert "wears the label of the new weights but does not compute with them" in said
    assert "allowed are mean 0.002, at most 0.02" in said and "Try another rollout.sync" in said


def test_a_damaged_server_is_not_even_begun_with(serve, engine_at, untouched):
    brain = MicroBrain(untouched)
    brain.perturbed = WEIGHT
    with pytest.raises(EngineError, match="does not compute with them"):
        engine_at(serve(brain=brain), check={"every": 0, "probe": True})


@pytest.mark.parametrize(("asked", "taken"), [(0.5, 1.0), (1.0, 0.7)])
def test_a_temperature_that_is_not_kept_is_named(serve, engine_at, student, asked, taken):
    server = serve()
    server.brain.temperature = taken
    engine = engine_at(server, check=COMPARING)
    train(student)
    engine.sync(student, 1)
    with pytest.raises(EngineError, match=rf"Likely temperature: .*temperature={asked:g} .* fit a temperature of {taken:g}\."):
        engine.generate(requests_for(student, 8, temperature=asked))


def test_weights_are_named_where_label_and_temperature_are_right(serve, engine_at, student):
    server = serve()
    engine = engine_at(server, check=COMPARING)
    server.brain.perturbed = WEIGHT
    train(student)
    engine.sync(student, 1)
    with pytest.raises(EngineError, match="Likely weights: the label is right, but at temperature 1 the numbers differ too"):
        engine.generate(requests_for(student, 8))


def test_another_version_is_named_where_the_label_is_wrong(serve, engine_at, student):
    server = serve()
    engine = engine_at(server, check=COMPARING)
    server.brain.perturbed = WEIGHT
    train(student)
    engine.sync(student, 1)
    server.told_label = "somebody-else"
    with pytest.raises(EngineError, match="Likely weights: the server holds another version than the trainer"):
        engine.generate(requests_for(student, 8))


def test_a_template_is_named_where_the_prompt_was_not_read_as_it_was_sent(serve, engine_at, student):
    server = serve()
    engine = engine_at(server, check=COMPARING)
    server.script("generate", fake.changed_meta(prompt_tokens=99))
    with pytest.raises(EngineError, match=r"template: the server read a prompt of 99 tokens, it was sent \d+\."):
        engine.generate(requests_for(student, 1))


@pytest.fixture
def rounded(serve, untouched):
    """Start a server that computes in bfloat16 and says so."""
    return serve(brain=MicroBrain(untouched, dtype=torch.bfloat16), dtype="torch.bfloat16")


def test_precision_is_named_where_the_bounds_are_too_tight_for_it(rounded, engine_at, student):
    engine = engine_at(rounded, check={**COMPARING, "max_difference": 1e-4, "mean_difference": 1e-5})
    train(student, 0.2)
    engine.sync(student, 1)
    with pytest.raises(EngineError, match=r"Likely precision: the server computes in bfloat16, .* --dtype float32"):
        engine.generate(requests_for(student, 8))


def test_rounding_to_bfloat16_is_allowed_where_the_server_says_so(rounded, engine_at, student):
    engine = engine_at(rounded, check={"every": 1, "probe": True})
    train(student, 0.2)
    engine.sync(student, 1)
    engine.generate(requests_for(student, 8))
    told = engine.metrics()
    assert 1e-4 < told["engine/mismatch_greatest"] < 2 and 1e-4 < told["engine/probe_max"] < 2


def test_log_probs_that_are_no_numbers_are_no_agreement(serve, engine_at, student):
    server = serve()
    engine = engine_at(server, check=COMPARING)

    def broken(server, answer):
        triples = [[math.nan, token, None] for _, token, _ in answer["meta_info"]["output_token_logprobs"]]
        return {**answer, "meta_info": {**answer["meta_info"], "output_token_logprobs": triples}}

    server.script("generate", broken)
    with pytest.raises(EngineError, match="at most inf nats"):
        engine.generate(requests_for(student, 1))


def test_agreement_is_looked_at_every_so_many_steps_and_reported(serve, engine_at, student):
    engine = engine_at(serve(), check={"every": 2, "probe": False})
    requests, compared = requests_for(student, 4), []
    for version in range(4):
        engine.sync(student, version)
        assert ids(engine.generate(requests)) == expected(student, requests)
        told = engine.metrics()
        compared.append("engine/mismatch_mean" in told)
        assert told.get("engine/mismatch_ratio_greatest", 1.0) == pytest.approx(1.0, abs=1e-4)
    assert compared == [True, False, True, False]


def test_a_worked_comparison():
    found = LogprobGap.between([[-1.0, -2.0], [-3.0]], [[-1.5, -1.9], [-3.0]])
    assert found.tokens == 3
    assert (found.max, found.mean, found.bias) == pytest.approx((0.5, 0.2, -0.4 / 3))
    assert (found.ratio_least, found.ratio_greatest) == pytest.approx((math.exp(-0.5), math.exp(0.1)))
    assert found.within(Tolerance(greatest=0.51, mean=0.21))
    assert not found.within(Tolerance(greatest=0.49, mean=0.21)) and not found.within(Tolerance(greatest=0.51, mean=0.19))


def test_the_trainers_numbers_do_not_depend_on_the_pieces_they_are_computed_in(student, monkeypatch):
    prompts = [request.prompt_ids for request in requests_for(student, 2)]
    responses = [(7, 8, 9, 10, 11), (12, 13)]
    whole = trainer_logprobs(student.model, prompts, responses, temperature=0.7)
    monkeypatch.setattr(logprob_check, "_CHUNK_TOKENS", 2)
    pieces = trainer_logprobs(student.model, prompts, responses, temperature=0.7)
    with torch.no_grad():
        for prompt, response, one, other in zip(prompts, responses, whole, pieces, strict=True):
            logits = student.model(input_ids=torch.tensor([prompt + response])).logits[0, len(prompt) - 1 : -1]
            plain = (logits / 0.7).log_softmax(-1).gather(1, torch.tensor(response)[:, None]).squeeze(1).tolist()
            same = pytest.approx(plain, rel=1e-6, abs=1e-5)  # float32 carries seven digits, also of a log-prob of -23
            assert one == same and other == same
