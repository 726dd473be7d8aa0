"""Requests for the initial weights: on servers that keep them, or by swapping the weights of the others."""

from __future__ import annotations

import threading

import pytest
import torch

from rosd_kit.components.rollouts import SGLangEngine
from rosd_kit.contracts import Site
from rosd_kit.errors import EngineError
from rosd_kit.model.student import Student
from rosd_kit.settings import ModelSettings
from tests.sglang_fake import fake_server
from tests.sglang_fake.helpers import expected, ids, requests_for, train


def labels(server):
    return [payload["weight_version"].partition("-")[2] for payload in server.payloads("/update_weights_from_disk")]


def test_with_initial_url_no_server_swaps_weights(serve, engine_at, student):
    live, frozen = serve(), serve()
    engine = engine_at(live, initial_url=frozen.url)
    train(student)
    engine.sync(student, 1)
    requests = requests_for(student, 4)
    assert ids(engine.generate(requests, weights="initial")) == expected(student, requests, weights="initial")
    assert ids(engine.generate(requests)) == expected(student, requests) != expected(student, requests, weights="initial")
    assert (labels(live), labels(frozen)) == (["0", "1"], ["initial"])
    assert (len(live.payloads("generate")), len(frozen.payloads("generate"))) == (4, 4)


def test_without_initial_url_the_server_swaps_weights(serve, engine_at, student):
    server = serve()
    engine = engine_at(server)
    train(student)
    engine.sync(student, 1)
    requests = requests_for(student, 4)
    for _ in range(2):
        frozen = engine.generate(requests, weights="initial")
        assert ids(frozen) == expected(student, requests, weights="initial")
        assert {completion.weight_version for completion in frozen} == {0}
        live = engine.generate(requests)
        assert ids(live) == expected(student, requests)
        assert {completion.weight_version for completion in live} == {1}
    assert labels(server) == ["0", "1", "initial", "1", "initial", "1"]


def test_a_restarted_server_of_initial_url_gets_the_initial_weights(serve, engine_at, student):
    live, frozen = serve(), serve()
    engine = engine_at(live, initial_url=frozen.url)
    train(student)
    engine.sync(student, 1)
    frozen.script("generate", fake_server.restarting)
    requests = requests_for(student, 2)
    assert ids(engine.generate(requests, weights="initial")) == expected(student, requests, weights="initial")
    assert labels(frozen) == ["initial", "initial"] and labels(live) == ["0", "1"]


@pytest.mark.parametrize("swapping", [False, True])
def test_threads_that_need_different_weights_never_get_the_others(serve, engine_at, student, swapping):
    live, frozen = serve(), serve()
    engine = engine_at(live, **({} if swapping else {"initial_url": frozen.url}))
    train(student)
    engine.sync(student, 1)
    requests = requests_for(student, 3, max_new_tokens=4)
    correct = {which: expected(student, requests, weights=which) for which in ("live", "initial")}
    wrong: list[object] = []

    def generate(which):
        for _ in range(3):
            try:
                outcome = ids(engine.generate(requests, weights=which))
            except Exception as error:
                outcome = [error]
            wrong.extend([] if outcome == correct[which] else [(which, outcome)])

    threads = [threading.Thread(target=generate, args=(which,)) for which in ("live", "initial") * 4]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert wrong == [] and not any(thread.is_alive() for thread in threads)
    assert engine.metrics().get("engine/fault/stale", 0) == 0, "weights stayed in place while requests used them"


@pytest.mark.parametrize("kept", [True, False])
def test_servers_that_slept_are_probed_and_get_nothing_sent_again(serve, engine_at, student, monkeypatch, kept):
    """They keep a copy of their weights; one that lost it is found by the probe."""
    live, frozen = serve(), serve()
    engine = engine_at(live, initial_url=frozen.url, colocated=True, check={"every": 0, "probe": True})
    monkeypatch.setattr(engine, "_shares_gpu", lambda pool: True)  # as if both had been launched
    engine.rest()
    assert live.released == frozen.released == {"kv_cache", "weights"}
    train(student)
    if not kept:
        with torch.no_grad():
            next(iter(frozen.backend.weights().values())).zero_()
    if kept:
        engine.sync(student, 1)
        requests = requests_for(student, 2)
        assert ids(engine.generate(requests, weights="initial")) == expected(student, requests, weights="initial")
    else:
        with pytest.raises(EngineError, match="does not compute with them"):
            engine.sync(student, 1)
    assert frozen.released == set() and (labels(live), labels(frozen)) == (["0", "1"], ["initial"])


def test_servers_for_initial_weights_stay_alone_where_nothing_is_sampled_with_those(serve, tmp_path):
    """As in `rosd-kit evaluate`, where the student has no copy of its initial weights."""
    live, frozen = serve(), serve()
    engine = SGLangEngine(SGLangEngine.Config(url=live.url, initial_url=frozen.url))
    student = Student.load(ModelSettings(path="micro", device="cpu"), keep_initial=False)
    engine.start(student, Site(tmp_path, samples_initial=False))
    try:
        requests = requests_for(student, 2)
        assert ids(engine.generate(requests)) == expected(student, requests)
    finally:
        engine.close()
    assert labels(live) == ["0"] and frozen.payloads("generate") == labels(frozen) == []


def test_servers_at_initial_url_keep_their_memory_while_others_sleep(serve, engine_at, student):
    live, frozen = serve(), serve()
    engine = engine_at(live, initial_url=frozen.url, colocated=True)
    engine.rest()
    assert live.released and not frozen.released
