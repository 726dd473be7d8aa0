"""The engine `vllm` with real servers of the embedded model on the CPU; skipped without vLLM.

ROSD_KIT_VLLM_PYTHON names the interpreter of an environment with vLLM; setup.sh beside this file creates one. One server is
shared by all tests but the last, whose run launches its own.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rosd_kit_vllm import VLLMEngine
from rosd_kit_vllm.engine import Launch
from rosd_kit_vllm.launch import PROGRAM, default_arguments

import rosd_kit as rk
from rosd_kit.components.rollouts import TransformersEngine
from rosd_kit.components.tasks import Micro
from rosd_kit.files import read_json_lines
from rosd_kit.model.micro.model import base_path
from rosd_kit.serving.logprob_check import LogprobGap, trainer_logprobs
from rosd_kit.serving.server import ServerProcess
from rosd_kit.serving.weight_transfer import LabeledWeights
from rosd_kit.settings import ModelSettings
from rosd_kit.testing import parametrize_with_checks

RECIPE = Path(__file__).parents[1] / "recipe.yaml"

#: Threads of two servers would wait for each other wherever cores are shared.
ONE_THREAD = {"OMP_NUM_THREADS": "1"}

pytestmark = pytest.mark.timeout(2400)  # a busy machine takes minutes to start a server


@pytest.fixture(scope="module")
def python() -> str:
    path = os.environ.get("ROSD_KIT_VLLM_PYTHON", "")
    if not Path(path).is_file():
        pytest.skip("ROSD_KIT_VLLM_PYTHON names no interpreter with vLLM; create one with plugins/rosd-kit-vllm/tests/setup.sh")
    return path


@pytest.fixture
def student() -> rk.Student:
    return rk.Student.load(ModelSettings(path="micro", device="cpu"), keep_initial=True)


@pytest.fixture(scope="module")
def url(python: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Start the shared server; engines wait until it is ready."""
    folder = tmp_path_factory.mktemp("server")
    student = rk.Student.load(ModelSettings(path=str(base_path()), device="cpu"), keep_initial=False)
    arguments, environment = default_arguments(student)
    launch = Launch(python=python, env=ONE_THREAD)
    (command,) = PROGRAM.commands(student, launch, folder=folder, colocated=False, arguments=arguments, environment=environment)
    process = ServerProcess(command, folder / "vllm.log")
    process.start()
    yield command.url
    process.stop()


@pytest.fixture
def engine_at(url: str, tmp_path: Path) -> Iterator[Callable[..., VLLMEngine]]:
    """Start engines that use the shared server."""
    engines: list[VLLMEngine] = []

    def start(student: rk.Student, **options) -> VLLMEngine:
        engine = VLLMEngine(VLLMEngine.Config(url=url, patience=900, **options))
        engine.start(student, rk.Site(tmp_path))
        engines.append(engine)
        return engine

    yield start
    for engine in engines:
        engine.close()


def requests_for(student, problems, *, per_problem=1, temperature=1.0, max_new_tokens=60) -> list[rk.GenerateRequest]:
    sampling = rk.Sampling(temperature=temperature, max_new_tokens=max_new_tokens)
    prompts = [student.prompt_ids(p.messages) for p in Micro().train_batch(step=0, count=problems, seed=0)]
    return [
        rk.GenerateRequest(prompt_ids=prompt, sampling=sampling, seed=seed) for prompt in prompts for seed in range(per_problem)
    ]


def by_transformers(student, requests, **options) -> list[rk.Completion]:
    engine = TransformersEngine()
    engine.start(student)
    return engine.generate(requests, **options)


def ids(completions) -> list[tuple[int, ...]]:
    return [completion.token_ids for completion in completions]


def gap_to_trainer(student, completions, temperature) -> LogprobGap:
    """Compare with the log-probs of the whole distribution at this temperature."""
    prompts = [completion.prompt_ids for completion in completions]
    trainer = trainer_logprobs(student.model, prompts, ids(completions), temperature=temperature)
    return LogprobGap.between([completion.logprobs for completion in completions], trainer)


def train(student, amount=0.1) -> None:
    """Change the trained weights, as training would."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in student.state().values():
            scale = weight.abs().mean() if weight.any() else torch.tensor(1.0)
            weight.add_(torch.randn(weight.shape, generator=generator) * amount * scale)


@parametrize_with_checks([VLLMEngine()])
def test_conformance(component, check, url):
    check(VLLMEngine(component.config.model_copy(update={"url": url, "patience": 900.0})))


def test_greedy_tokens_equal_those_of_transformers(student, engine_at):
    requests = requests_for(student, 8, temperature=0.0)
    completions, expected = engine_at(student).generate(requests), by_transformers(student, requests)
    assert [(c.token_ids, c.text, c.token_spans, c.finish_reason) for c in completions] == [
        (c.token_ids, c.text, c.token_spans, c.finish_reason) for c in expected
    ]
    assert gap_to_trainer(student, completions, 1.0).max < 1e-4


@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_sampled_log_probs_equal_the_trainers_at_the_sampling_temperature(student, engine_at, temperature):
    completions = engine_at(student).generate(requests_for(student, 4, per_problem=4, temperature=temperature))
    assert len(set(ids(completions))) > 4, "sampled responses differ"
    assert gap_to_trainer(student, completions, temperature).max < 1e-4


def test_limits_of_sampling_are_obeyed_and_log_probs_are_of_the_whole_distribution(student, engine_at):
    """At most `top_k` of the likeliest tokens, none below `min_p` of the likeliest; one token left is greedy."""
    train(student, 0.3)  # which leaves it so unsure that some 30 of 288 tokens are unlikely ones
    engine, hot = engine_at(student), rk.Sampling(temperature=2.0, max_new_tokens=24)
    requests = requests_for(student, 3, per_problem=4)

    def sampled(**limits):
        completions = engine.generate([replace(request, sampling=replace(hot, **limits)) for request in requests])
        assert gap_to_trainer(student, completions, hot.temperature).max < 1e-4
        return completions

    def ranks_and_shares(completions):
        for completion in completions:
            row = torch.tensor([[*completion.prompt_ids, *completion.token_ids]])
            with torch.no_grad():
                logits = student.model(row).logits[0, len(completion.prompt_ids) - 1 : -1]
            probs = (logits / hot.temperature).softmax(-1)
            own = probs.gather(1, torch.tensor(completion.token_ids)[:, None])
            yield from zip((probs > own).sum(1).tolist(), (own[:, 0] / probs.max(1).values).tolist(), strict=True)

    greedy = engine.generate([replace(request, sampling=replace(hot, temperature=0.0)) for request in requests])
    assert ids(sampled(top_k=1)) == ids(sampled(min_p=1.0)) == ids(greedy)
    assert max(rank for rank, _ in ranks_and_shares(sampled(top_k=2))) == 1
    assert min(share for _, share in ranks_and_shares(sampled(min_p=0.2))) >= 0.2 - 1e-4
    free = list(ranks_and_shares(sampled()))
    assert max(rank for rank, _ in free) > 1 and min(share for _, share in free) < 0.2


def test_a_seed_gives_the_same_tokens_alone_and_in_a_batch(student, engine_at):
    engine = engine_at(student)
    requests = requests_for(student, 4, per_problem=8, temperature=2.0)
    together = ids(engine.generate(requests))
    assert ids(engine.generate(requests[::-1]))[::-1] == together
    assert [ids(engine.generate([request]))[0] for request in requests[:3]] == together[:3]
    assert len(set(together)) > 8, "other seeds give others"


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
    requests = requests_for(student, 4, temperature=0.0, max_new_tokens=12)
    likeliest = sorted({completion.token_ids[0] for completion in engine.generate(requests)})
    engine._sender.never = likeliest
    for request, completion in zip(requests, engine.generate(requests), strict=True):
        assert set(completion.token_ids).isdisjoint(likeliest)
        with torch.no_grad():
            logits = student.model(torch.tensor([request.prompt_ids])).logits[0, -1]
        logits[likeliest] = -torch.inf
        assert completion.token_ids[0] == int(logits.argmax())
        assert completion.logprobs[0] == pytest.approx(float(logits.log_softmax(-1).max()), abs=1e-3)


def test_a_budget_cuts_a_response_and_a_prompt_too_long_is_overlong(student, engine_at):
    engine = engine_at(student)
    first, second = requests_for(student, 2, temperature=0.0)
    short = replace(first, sampling=replace(first.sampling, max_new_tokens=3))
    context = engine._pool.context_length
    long = replace(second, prompt_ids=second.prompt_ids * context)
    filled = replace(second, prompt_ids=(second.prompt_ids * context)[: context - 2])
    cut, overlong, at_the_end, complete = engine.generate([short, long, filled, second])
    assert (len(cut.token_ids), cut.finish_reason) == (3, "length")
    assert (overlong.token_ids, overlong.finish_reason) == ((), "overlong")
    assert 1 <= len(at_the_end.token_ids) <= 2
    assert complete.finish_reason == "stop"


def test_new_and_initial_weights_arrive_and_name_themselves(student, engine_at):
    engine = engine_at(student)
    requests = requests_for(student, 6, temperature=0.0)
    before = ids(engine.generate(requests))
    for version in (1, 2):
        train(student)
        engine.sync(student, version)
        after = engine.generate(requests)
        assert ids(after) == ids(by_transformers(student, requests))
        assert {completion.weight_version for completion in after} == {version}
    assert ids(after) != before, "otherwise the test proves nothing"
    metrics = engine.metrics()
    size = sum(weight.nbytes for weight in student.model.parameters()) / 2**20
    assert metrics["engine/sync_mib"] == pytest.approx(3 * size) and metrics["engine/probe_max"] < 1e-4
    assert ids(engine.generate(requests, weights="initial")) == before
    assert ids(engine.generate(requests)) == ids(after)


def test_the_probe_notices_a_damaged_tensor(student, engine_at, monkeypatch):
    engine = engine_at(student)
    send = engine._pool._transfer.send

    async def send_damaged(weights, client, info):
        def tensors():
            for name, tensor in weights.tensors():
                yield name, tensor * 1.05 if name.endswith("layers.1.mlp.down_proj.weight") else tensor

        return await send(LabeledWeights(weights.label, tensors), client, info)

    monkeypatch.setattr(engine._pool._transfer, "send", send_damaged)
    train(student, 0.02)
    with pytest.raises(rk.EngineError, match="reports the new weights but does not compute with them"):
        engine.sync(student, 1)


def test_the_first_rollouts_are_compared_and_a_wrong_temperature_is_named(student, engine_at, monkeypatch):
    engine = engine_at(student)
    engine.generate(requests_for(student, 2, per_problem=4))
    assert 0 < engine.metrics()["engine/mismatch_greatest"] < 1e-4
    (replica,) = engine._pool.replicas
    generate = replica.client.generate
    monkeypatch.setattr(
        replica.client,
        "generate",
        lambda prompt, sampling, **rest: generate(prompt, replace(sampling, temperature=1.0), **rest),
    )
    with pytest.raises(rk.EngineError, match=r"Likely temperature: .* fit a temperature of 1\."):
        engine.generate(requests_for(student, 4, per_problem=2, temperature=0.5))


#: Observes a run and kills its server, but not the watchdog that holds it, after the first step.
KILLER = """
import psutil
import rosd_kit as rk

rosd_kit_api = 2


@rk.hookimpl
def rosd_kit_step_end(run, step, metrics, samples):
    watchdogs = [child for child in psutil.Process().children() if any("watchdog.py" in word for word in child.cmdline())]
    if step == 1:
        for process in watchdogs[0].children(recursive=True):
            process.kill()
"""


def test_a_run_relaunches_a_server_that_was_killed(python, tmp_path):
    (tmp_path / "killer.py").write_text(KILLER)
    command = [sys.executable, "-m", "rosd_kit", "run", str(RECIPE), "--plugin", str(tmp_path / "killer.py")]
    command += ["--out", str(tmp_path), "--name", "run", "steps=2", "problems_per_step=8", "group_size=6"]
    command += ["evaluation.problems=0", "checkpoint.every=0", "rollout.check.every=1", f"rollout.launch.python={python}"]
    done = subprocess.run(command, env={**os.environ, **ONE_THREAD}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    first, second = read_json_lines(tmp_path / "run/metrics.jsonl")
    assert first.get("engine/relaunches", 0) == 0 and second["engine/relaunches"] == 1
    for step in (first, second):
        assert step["train/applied"] == 1.0 and step["train/loss"] > 0
        assert step["train/engine_mismatch"] < 1e-4 and step["engine/probe_max"] < 1e-3
        assert step["engine/mismatch_greatest"] < 1e-3
