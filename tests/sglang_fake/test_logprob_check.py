"""An engine that computes other log-probs than the trainer is noticed, and the error names the likely cause."""

from __future__ import annotations

import math

import pytest
import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

from rosd_kit.errors import EngineError
from rosd_kit.serving import logprob_check
from rosd_kit.serving.logprob_check import LogprobGap, Tolerance, fit_temperature, trainer_logprobs
from rosd_kit.serving.probe import _probe_sequences
from tests.sglang_fake import fake_server
from tests.sglang_fake.backend import MicroBackend
from tests.sglang_fake.helpers import expected, ids, requests_for, train

WEIGHT = "model.layers.1.mlp.down_proj.weight"
COMPARE_EVERY_STEP = {"every": 1, "probe": False}


def test_the_probe_names_the_server_with_damaged_weights(serve, engine_at, student):
    good, bad = serve(), serve()
    engine = engine_at(good, bad, check={"every": 0, "probe": True})
    assert engine.metrics()["engine/probe_max"] < 1e-4
    bad.backend.perturbed = WEIGHT
    train(student, 0.01)
    with pytest.raises(EngineError) as error:
        engine.sync(student, 1)
    message = str(error.value)
    assert bad.url in message and good.url not in message
    assert "reports the new weights but does not compute with them" in message
    assert "allowed: median 0.002, mean 0.002, max 0.02" in message and "Try another rollout.sync" in message


def test_a_server_with_damaged_weights_fails_at_the_start(serve, engine_at, untouched):
    backend = MicroBackend(untouched)
    backend.perturbed = WEIGHT
    with pytest.raises(EngineError, match="does not compute with them"):
        engine_at(serve(backend=backend), check={"every": 0, "probe": True})


@pytest.mark.parametrize(("requested", "actual"), [(0.5, 1.0), (1.0, 0.7)])
def test_a_wrong_temperature_is_named(serve, engine_at, student, requested, actual):
    server = serve()
    server.backend.temperature = actual
    engine = engine_at(server, check=COMPARE_EVERY_STEP)
    train(student)
    engine.sync(student, 1)
    with pytest.raises(
        EngineError, match=rf"Likely temperature: .*temperature={requested:g}\..* fit a temperature of {actual:g}\."
    ):
        engine.generate(requests_for(student, 8, temperature=requested))


def test_weights_are_named_when_label_and_temperature_are_right(serve, engine_at, student):
    server = serve()
    engine = engine_at(server, check=COMPARE_EVERY_STEP)
    server.backend.perturbed = WEIGHT
    train(student)
    engine.sync(student, 1)
    with pytest.raises(EngineError, match="Likely weights: the label is right, but the log-probs differ at temperature 1 too"):
        engine.generate(requests_for(student, 8))


def test_another_version_is_named_when_the_label_is_wrong(serve, engine_at, student):
    server = serve()
    engine = engine_at(server, check=COMPARE_EVERY_STEP)
    server.backend.perturbed = WEIGHT
    train(student)
    engine.sync(student, 1)
    server.reported_label = "somebody-else"
    with pytest.raises(EngineError, match="Likely weights: the server holds another version than the trainer"):
        engine.generate(requests_for(student, 8))


def test_the_template_is_named_when_the_server_read_another_prompt(serve, engine_at, student):
    server = serve()
    engine = engine_at(server, check=COMPARE_EVERY_STEP)
    server.script("generate", fake_server.changed_meta(prompt_tokens=99))
    with pytest.raises(EngineError, match=r"template: the server read a prompt of 99 tokens; \d+ were sent\."):
        engine.generate(requests_for(student, 1))


@pytest.fixture
def bfloat16_server(serve, untouched):
    """Start a server that computes in bfloat16 and reports it."""
    return serve(backend=MicroBackend(untouched, dtype=torch.bfloat16), dtype="torch.bfloat16")


def test_precision_is_named_when_the_tolerance_is_too_small_for_it(bfloat16_server, engine_at, student):
    engine = engine_at(bfloat16_server, check={**COMPARE_EVERY_STEP, "max_difference": 1e-4, "mean_difference": 1e-5})
    train(student, 0.2)
    engine.sync(student, 1)
    with pytest.raises(EngineError, match=r"Likely precision: the server computes in bfloat16, .* --dtype float32"):
        engine.generate(requests_for(student, 8))


def test_rounding_to_bfloat16_is_allowed_when_the_server_reports_bfloat16(bfloat16_server, engine_at, student):
    engine = engine_at(bfloat16_server, check={"every": 1, "probe": True})
    train(student, 0.2)
    engine.sync(student, 1)
    engine.generate(requests_for(student, 8))
    metrics = engine.metrics()
    assert 1e-4 < metrics["engine/mismatch_greatest"] < 2 and 1e-4 < metrics["engine/probe_max"] < 2


def test_log_probs_that_are_not_finite_count_as_an_infinite_gap(serve, engine_at, student):
    server = serve()
    engine = engine_at(server, check=COMPARE_EVERY_STEP)

    def with_nan(server, response):
        triples = [[math.nan, token, None] for _, token, _ in response["meta_info"]["output_token_logprobs"]]
        return {**response, "meta_info": {**response["meta_info"], "output_token_logprobs": triples}}

    server.script("generate", with_nan)
    with pytest.raises(EngineError, match="max inf nats"):
        engine.generate(requests_for(student, 1))


def test_the_comparison_is_made_every_so_many_steps_and_reported(serve, engine_at, student):
    engine = engine_at(serve(), check={"every": 2, "probe": False})
    requests, compared = requests_for(student, 4), []
    for version in range(4):
        engine.sync(student, version)
        assert ids(engine.generate(requests)) == expected(student, requests)
        metrics = engine.metrics()
        compared.append("engine/mismatch_mean" in metrics)
        assert metrics.get("engine/mismatch_ratio_greatest", 1.0) == pytest.approx(1.0, abs=1e-4)
    assert compared == [True, False, True, False]


def test_the_gap_of_a_worked_example():
    gap = LogprobGap.between([[-1.0, -2.0], [-3.0]], [[-1.5, -1.9], [-3.0]])
    assert gap.tokens == 3
    assert (gap.max, gap.mean, gap.bias) == pytest.approx((0.5, 0.2, -0.4 / 3))
    assert (gap.ratio_min, gap.ratio_max) == pytest.approx((math.exp(-0.5), math.exp(0.1)))
    assert gap.median == pytest.approx(0.1)
    assert gap.is_within(Tolerance(max=0.51, mean=0.21, median=0.11))
    assert not gap.is_within(Tolerance(max=0.49, mean=0.21, median=0.11))
    assert not gap.is_within(Tolerance(max=0.51, mean=0.19, median=0.11))
    assert not gap.is_within(Tolerance(max=0.51, mean=0.21, median=0.09))


def test_a_low_temperature_widens_the_tolerance_as_it_multiplies_logits():
    tolerance = Tolerance(max=2.0, mean=0.1, median=0.05)
    assert tolerance.at(0.5) == Tolerance(max=4.0, mean=0.2, median=0.1)
    assert tolerance.at(1.0) == tolerance.at(1.5) == tolerance


def test_a_narrow_head_is_computed_in_float32(monkeypatch):
    torch.manual_seed(0)
    config = {"vocab_size": 90, "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    model = Qwen3ForCausalLM(Qwen3Config(**config, num_key_value_heads=1, head_dim=8, initializer_range=1.0)).bfloat16().eval()
    monkeypatch.setattr(logprob_check, "_HEAD_ROWS", 7)
    (logprobs,) = trainer_logprobs(model, [(1, 2)], [(3, 4, 5)], temperature=0.5)
    with torch.no_grad():
        states = model.model(torch.tensor([[1, 2, 3, 4]])).last_hidden_state[0, 1:]
        exact = (states.double() @ model.lm_head.weight.double().T / 0.5).log_softmax(-1)
    assert logprobs == pytest.approx([float(exact[i, id]) for i, id in enumerate((3, 4, 5))], rel=1e-5)


def test_the_probe_reads_ordinary_text_where_the_tokenizer_knows_its_words(student):
    class Letters:
        def __call__(self, text, add_special_tokens):
            return {"input_ids": [ord(letter) for letter in text]}

    texts = _probe_sequences(Letters(), 256)
    assert bytes(texts[0]).decode().startswith("The water of the river") and all(len(ids) == 48 for ids in texts)
    random_ids = _probe_sequences(student.tokenizer, student.vocabulary)  # the laboratory's knows few words
    assert all(len(ids) == 24 and max(ids) < student.vocabulary for ids in random_ids)
    assert random_ids == _probe_sequences(student.tokenizer, student.vocabulary)


def test_the_trainers_log_probs_do_not_depend_on_the_chunk_size(student, monkeypatch):
    prompts = [request.prompt_ids for request in requests_for(student, 2)]
    responses = [(7, 8, 9, 10, 11), (12, 13)]
    whole = trainer_logprobs(student.model, prompts, responses, temperature=0.7)
    monkeypatch.setattr(logprob_check, "_CHUNK_TOKENS", 2)
    chunked = trainer_logprobs(student.model, prompts, responses, temperature=0.7)
    with torch.no_grad():
        for prompt, response, one, other in zip(prompts, responses, whole, chunked, strict=True):
            logits = student.model(input_ids=torch.tensor([prompt + response])).logits[0, len(prompt) - 1 : -1]
            expected_logprobs = (logits / 0.7).log_softmax(-1).gather(1, torch.tensor(response)[:, None]).squeeze(1).tolist()
            same = pytest.approx(
                expected_logprobs, rel=1e-6, abs=1e-5
            )  # float32 carries seven digits, also of a log-prob of -23
            assert one == same and other == same


def test_the_temperature_that_fits_is_found_in_one_pass(student):
    prompts, responses, passes = [(5, 9, 11), (7, 8)], [(20, 21, 22), (30, 31)], []
    engine = trainer_logprobs(student.model, prompts, responses, temperature=0.7)
    hook = student.model.get_input_embeddings().register_forward_hook(lambda *_: passes.append(1))
    try:
        assert fit_temperature(engine, student.model, prompts, responses) == 0.7
    finally:
        hook.remove()
    assert len(passes) == len(responses)
