"""Options of the engine: mistakes are reported, and values take effect."""

from __future__ import annotations

import copy
import threading
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from rosd_kit.components.rollouts import SGLangEngine, TransformersEngine
from rosd_kit.contracts import Site
from rosd_kit.errors import EngineError, RecipeError
from rosd_kit.model.student import Student
from rosd_kit.plugins.manager import PluginManager
from rosd_kit.recipe import load_recipe
from rosd_kit.settings import ModelSettings
from rosd_kit.types import Sampling
from tests.sglang_fake.backend import MicroBackend
from tests.sglang_fake.helpers import expected, ids, requests_for, train

RECIPE = Path(__file__).parents[2] / "recipes/rosd.yaml"


def load(*changes):
    return load_recipe(str(RECIPE), ["profile=micro", "rollout=sglang", *changes], registry=PluginManager().registry)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("rollout.lanch.python=python3", ["rollout.lanch", "Did you mean 'launch'?", "command line"]),
        ("rollout.launch.pyton=python3", ["rollout.launch.pyton", "Did you mean 'python'?"]),
        ("rollout.check.evry=3", ["rollout.check.evry", "Did you mean 'every'?"]),
        ("rollout.sync=disc", ["rollout.sync", "'disc'", "Did you mean 'disk'?", "'distributed'"]),
        ("rollout.tries=0", ["rollout.tries", "0", "greater than 0"]),
        ("rollout.launch.servers=0", ["rollout.launch.servers", "greater than 0"]),
        ("rollout.launch.devices=3", ["rollout.launch.devices", "3"]),
        ("rollout.launch.args={a: [1]}", ["rollout.launch.args.a"]),
        ("rollout.router=http://127.0.0.1:1", ["rollout", "router needs url"]),
        ("rollout={initial_url: [http://h:1], launch: {initial_servers: 1}}", ["launch.initial_servers=1 and initial_url"]),
        ("rollout={colocated: true, launch: {initial_servers: 2}}", ["colocated and launch.initial_servers=2", "leave"]),
    ],
)
def test_a_mistake_is_reported_with_its_field(change, words):
    with pytest.raises(RecipeError) as error:
        load(change)
    assert [word for word in words if word not in str(error.value)] == []


def test_options_of_a_recipe_arrive():
    options = load(
        "rollout.launch.args={a_b: 0.5, c: true}", "rollout.url=http://h:1", "rollout.check.probe=false"
    ).rollout.options
    assert (options.launch.args, options.url, options.check.probe) == ({"a_b": 0.5, "c": True}, "http://h:1", False)


def test_limits_and_stop_strings_give_what_the_student_itself_samples(serve, engine_at, student):
    requests = requests_for(student, 6, max_new_tokens=12)
    free = TransformersEngine()
    free.start(student)
    word = free.generate(requests)[0].text.split()[2]
    options = Sampling(max_new_tokens=12, top_k=3, min_p=0.01, top_p=0.9, stop=(f" {word}",))
    requests = [replace(request, sampling=options) for request in requests]
    wanted = free.generate(requests)
    completions = engine_at(serve()).generate(requests)
    assert [(c.token_ids, c.text, c.finish_reason) for c in completions] == [
        (c.token_ids, c.text, c.finish_reason) for c in wanted
    ]
    stopped = [c for c in completions if c.token_ids[-1] not in student.end_ids and c.finish_reason == "stop"]
    assert stopped and all(c.text.endswith(f" {word}") and len(c.token_ids) <= 12 for c in stopped)


@pytest.mark.parametrize(
    ("options", "sent"),
    [
        ({}, (-1, 1.0, 0.0, [])),
        ({"top_k": 7}, (7, 1.0, 0.0, [])),
        ({"top_k": 1}, (-1, 1.0, 1.0, [])),  # a real server's log-probs would be those of temperature 1
        ({"min_p": 0.25, "top_p": 0.5}, (-1, 0.5, 0.25, [])),
        ({"stop": (" .", "Answer")}, (-1, 1.0, 0.0, [" .", "Answer"])),
    ],
    ids=str,
)
def test_each_limit_reaches_the_server(serve, engine_at, student, options, sent):
    server = serve()
    (request,) = requests_for(student, 1, max_new_tokens=3)
    engine_at(server).generate([replace(request, sampling=Sampling(max_new_tokens=3, **options))])
    params = server.payloads("generate")[-1]["sampling_params"]
    assert tuple(params[name] for name in ("top_k", "top_p", "min_p", "stop")) == sent
    assert "logit_bias" not in params


def test_a_limit_of_one_token_is_greedy(serve, engine_at, student):
    requests = requests_for(student, 4, max_new_tokens=8)
    engine = engine_at(serve())

    def sampled(**options):
        return ids(engine.generate([replace(one, sampling=Sampling(max_new_tokens=8, **options)) for one in requests]))

    greedy = sampled(temperature=0.0)
    assert sampled(top_k=1, temperature=1.5) == sampled(min_p=1.0, temperature=1.5) == greedy
    assert sampled(temperature=1.5) != greedy


@pytest.fixture
def larger(student, tmp_path) -> Student:
    """Return a student whose embedding has 8 rows without a token, among them the likeliest next ids."""
    model, known = copy.deepcopy(student.model), student.vocabulary
    model.resize_token_embeddings(known + 8, mean_resizing=False)
    common = [token for response in expected(student, requests_for(student, 4)) for token in response][:8]
    with torch.no_grad():
        head = model.get_output_embeddings().weight
        head[known:] = 3 * head[common]
    model.save_pretrained(tmp_path / "larger")
    student.tokenizer.save_pretrained(tmp_path / "larger")
    return Student.load(ModelSettings(path=str(tmp_path / "larger"), device="cpu"), keep_initial=True)


def test_ids_without_a_token_are_never_sampled(serve, larger, student, tmp_path):
    known, requests = student.vocabulary, requests_for(larger, 6, max_new_tokens=12)
    with torch.no_grad():
        logits = [larger.model(torch.tensor([request.prompt_ids])).logits[0, -1] for request in requests]
    assert all(int(row.argmax()) >= known for row in logits), "unmasked, such ids are the likeliest"
    server = serve(backend=MicroBackend(larger))
    engine = SGLangEngine(SGLangEngine.Config(url=server.url, check={"every": 0, "probe": False}))
    engine.start(larger, Site(tmp_path))
    try:
        completions = engine.generate(requests)
    finally:
        engine.close()
    assert server.payloads("generate")[-1]["sampling_params"]["logit_bias"] == {str(known + n): -1e9 for n in range(8)}
    assert all(max(completion.token_ids) < known for completion in completions)
    assert ids(completions) == expected(larger, requests)


def test_the_api_key_is_sent_with_every_request(serve, engine_at, student, monkeypatch):
    monkeypatch.setenv("MY_KEY", "sesame")
    live, frozen = serve(api_key="sesame"), serve(api_key="sesame")
    engine = engine_at(live, initial_url=frozen.url, api_key_env="MY_KEY", check={"every": 1})
    train(student)
    engine.sync(student, 1)
    engine.generate(requests_for(student, 2))
    engine.generate(requests_for(student, 2), weights="initial")
    assert {request.authorization for server in (live, frozen) for request in server.received} == {"Bearer sesame"}


@pytest.mark.parametrize("value", [None, ""])
def test_a_missing_api_key_variable_is_an_error(serve, engine_at, monkeypatch, value):
    monkeypatch.delenv("MY_KEY", raising=False)
    if value is not None:
        monkeypatch.setenv("MY_KEY", value)
    with pytest.raises(
        RecipeError, match=r"rollout\.api_key_env: the environment variable 'MY_KEY' is not set\. Set it, or use null"
    ):
        engine_at(serve(), api_key_env="MY_KEY")


@pytest.mark.parametrize(
    ("key", "fault", "words"),
    [
        ("other", None, "HTTP 401"),
        (None, 404, "HTTP 404"),
        (None, lambda server, response: "<html>", "not a JSON object: <html>"),
    ],
)
def test_an_address_that_is_not_an_sglang_server_is_an_error(serve, engine_at, key, fault, words):
    server = serve(api_key=key)
    server.script("/server_info", *[fault] * 4)  # the request is repeated a few times
    with pytest.raises(
        EngineError, match=rf"cannot read the server info of {server.url}: .*{words}.*rollout\.api_key_env right\?"
    ):
        engine_at(server)


def test_an_untested_version_is_refused_unless_any_is_allowed(serve, engine_at, student):
    server = serve(version="0.5.99")
    with pytest.raises(EngineError, match=r"runs SGLang 0\.5\.99; .* rollout\.any_version=true"):
        engine_at(server)
    assert server.payloads("/update_weights_from_disk") == [], "no weights were sent"
    assert engine_at(server, any_version=True).generate(requests_for(student, 1))[0].token_ids


def test_a_start_that_fails_leaves_nothing_running(engine_at, tmp_path):
    before = set(threading.enumerate())
    url = "http://127.0.0.1:9"
    with pytest.raises(EngineError, match=rf"no healthy SGLang server at {url} after 0 s\. Start it, or correct rollout\.url"):
        engine_at(url=url, patience=0.3)
    assert {thread.name for thread in set(threading.enumerate()) - before if thread.name.startswith("rosd-kit")} == set()
    assert list(tmp_path.iterdir()) == []


def test_progress_is_reported_while_waiting_for_a_server(serve, student, tmp_path):
    server, progress = serve(), []
    server.die()

    def come_back(text: str) -> None:
        if not progress:
            server.listen()
        progress.append(text)

    engine = SGLangEngine(SGLangEngine.Config(url=server.url, patience=20, check={"every": 0, "probe": False}))
    engine.start(student, Site(tmp_path, come_back))
    engine.close()
    assert progress[0].startswith(f"waiting for SGLang at {server.url} (")
    assert "of at most 20" in progress[0]


@pytest.mark.parametrize(
    ("launch", "option"),
    [({"devices": ["1", "2"], "servers": 2}, "devices"), ({"servers": 3}, "servers"), ({"devices": ["1"]}, "devices")],
)
def test_a_colocated_server_cannot_be_on_another_gpu(launch, option):
    with pytest.raises(
        ValueError, match=rf"launch\.{option}.* contradict each other.*colocated=false.*leave launch\.{option} out"
    ):
        SGLangEngine.Config(colocated=True, launch=launch)
    assert SGLangEngine.Config(colocated=False, launch=launch).launch.servers == launch.get("servers", 1)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            {"sync": "tensor", "launch": {"devices": ["1"]}},
            r"rollout\.sync: 'tensor'.*devices=\['1'\].*Use disk or distributed",
        ),
        ({"sync": "distributed", "colocated": True}, r"rollout\.sync: 'distributed'.*one GPU.*Use tensor or disk"),
    ],
)
def test_ways_of_transfer_that_gpus_do_not_offer_are_refused(student, monkeypatch, options, words):
    engine = SGLangEngine(SGLangEngine.Config(**options))
    monkeypatch.setattr(student, "device", torch.device("cuda", 0))
    monkeypatch.setattr("rosd_kit.parallel.devices.torch.cuda.set_device", lambda device: None)
    with pytest.raises(RecipeError, match=words):
        engine.start(student)
