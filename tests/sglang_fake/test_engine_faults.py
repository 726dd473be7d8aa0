"""A batch is finished despite faults: each request is answered once, in order, from the right weights."""

from __future__ import annotations

import random
import threading
import time
from dataclasses import replace

import pytest
import torch

from rosd_kit.errors import EngineError
from tests.sglang_fake import fake_server
from tests.sglang_fake.helpers import expected, ids, requests_for, train

TRANSIENT = {
    "503": (503, "unavailable"),
    "closed": ("closed", "unreachable"),
    "half a body": ("cut", "unreachable"),
    "half a JSON object": ("truncated", "garbled"),
    "aborted with HTTP 200": (fake_server.aborted, "aborted"),
    "other weights": (fake_server.stale, "stale"),
    "weights that changed during the response": (fake_server.mixed, "stale"),
    "no response": ("hang", "timeout"),
}


def fault_count(metrics):
    return sum(value for name, value in metrics.items() if name.startswith("engine/fault/"))


@pytest.mark.parametrize("name", TRANSIENT)
def test_a_fault_is_retried_and_counted(serve, engine_at, student, name):
    fault, kind = TRANSIENT[name]
    server = serve()
    engine = engine_at(server, concurrency=1, timeout=2.0 if kind == "timeout" else 60.0)
    requests = requests_for(student, 4)
    count = 1 if kind == "timeout" else 2
    server.script("generate", None, *[fault] * count, None)
    assert ids(engine.generate(requests)) == expected(student, requests)
    metrics = engine.metrics()
    assert (metrics[f"engine/fault/{kind}"], metrics["engine/retries"], fault_count(metrics)) == (count, count, count)
    assert len(server.payloads("generate")) == len(requests) + count
    assert len(server.payloads("/update_weights_from_disk")) == 1, "the server kept its weights"


def test_a_batch_survives_a_hundred_faults(serve, engine_at, student):
    rng = random.Random(0)
    kinds = [
        503,
        "closed",
        "cut",
        "truncated",
        fake_server.aborted,
        fake_server.stale,
        fake_server.mixed,
        fake_server.restarting,
    ]
    faults = [rng.choice(kinds) for _ in range(100)]
    script = [*faults, *[None] * 20]
    rng.shuffle(script)
    server = serve()
    engine = engine_at(server, concurrency=8, tries=200)
    server.script("generate", *script)
    requests = requests_for(student, 40, max_new_tokens=3)
    streamed = list(engine.stream(requests))
    assert sorted(index for index, _ in streamed) == list(range(40))
    assert [completion.token_ids for _, completion in sorted(streamed, key=lambda pair: pair[0])] == expected(student, requests)
    metrics = engine.metrics()
    assert fault_count(metrics) == metrics["engine/retries"] >= 100
    assert 1 <= metrics["engine/resyncs"] <= faults.count(fake_server.restarting)


def test_the_error_after_the_last_try_names_the_fault_and_the_remedy(serve, engine_at, student):
    server = serve()
    engine = engine_at(server, tries=3)
    server.script("generate", "closed", "truncated", 503)
    with pytest.raises(EngineError, match=r"failed 3 times; last fault: unavailable: .*HTTP 503(.|\n)*run --resume"):
        engine.generate(requests_for(student, 1))


def test_a_rejected_request_is_not_retried(serve, engine_at, student):
    server = serve()
    engine = engine_at(server)
    server.script("generate", 400)
    with pytest.raises(EngineError, match=r"the server rejected a request: .*HTTP 400 .*scripted 400"):
        engine.generate(requests_for(student, 1))
    assert len(server.payloads("generate")) == 1


def test_a_server_restarted_with_old_weights_gets_the_new_ones(serve, engine_at, student):
    server = serve()
    engine = engine_at(server, concurrency=2)
    requests = requests_for(student, 8)
    before = expected(student, requests)
    train(student)
    engine.sync(student, 1)
    server.script("generate", None, None, fake_server.restarting)
    completions = engine.generate(requests)
    assert ids(completions) == expected(student, requests) != before
    assert {completion.weight_version for completion in completions} == {1}
    assert engine.metrics()["engine/resyncs"] == 1
    assert all(torch.equal(weight, student.state()[name]) for name, weight in server.backend.weights().items())


def test_a_silent_restart_is_noticed_by_the_label(serve, engine_at, student):
    server = serve()
    engine = engine_at(server)
    train(student)
    engine.sync(student, 1)
    server.restart()
    requests = requests_for(student, 4)
    assert ids(engine.generate(requests)) == expected(student, requests)
    assert engine.metrics()["engine/fault/stale"] >= 1


def test_the_engine_waits_for_a_server_that_comes_back(serve, engine_at, student):
    server = serve()
    engine = engine_at(server, patience=60)
    requests = requests_for(student, 8)

    def disappear_briefly(server, response):
        server.die()
        threading.Timer(0.3, lambda: (server.restart(), server.listen())).start()
        return response

    server.script("generate", None, disappear_briefly)
    assert ids(engine.generate(requests)) == expected(student, requests)
    assert engine.metrics()["engine/resyncs"] == 1


@pytest.mark.parametrize("route", ["/update_weights_from_disk", "/model_info"])
@pytest.mark.parametrize("fault", [503, "closed", fake_server.restarting])
def test_a_fault_during_a_transfer_is_recovered(serve, engine_at, student, route, fault):
    server = serve()
    engine = engine_at(server)
    train(student)
    server.script(route, fault)
    engine.sync(student, 1)
    requests = requests_for(student, 2)
    assert ids(engine.generate(requests)) == expected(student, requests)
    assert fault_count(engine.metrics()) == 1


def test_a_server_that_rejects_the_weights_ends_the_run(serve, engine_at, student):
    server = serve()
    engine = engine_at(server)
    server.script("/update_weights_from_disk", 400)
    with pytest.raises(EngineError, match=r"the server rejected the weights: .*scripted 400(.|\n)*run --resume"):
        engine.sync(student, 1)


def test_a_server_that_never_reports_the_label_ends_the_run(serve, engine_at, student):
    server = serve()
    engine = engine_at(server)
    server.reported_label = "mine"
    with pytest.raises(EngineError, match=r"could not load the weights: stale: .* reports weights 'mine' after it was sent"):
        engine.sync(student, 1)


def test_an_id_outside_the_vocabulary_is_never_sent(serve, engine_at, student):
    server = serve()
    engine = engine_at(server)
    (request,) = requests_for(student, 1)
    for invalid in (student.vocabulary, -1):
        with pytest.raises(EngineError, match=rf"has the token id {invalid}; the model's are 0 to 211.*correct model\.path"):
            engine.generate([request, replace(request, prompt_ids=(*request.prompt_ids, invalid))])
    assert server.payloads("generate") == [], "not even the valid one was sent"
    assert engine.generate([request])[0].token_ids


def test_a_prompt_too_long_for_the_server_is_an_overlong_completion(serve, engine_at, student):
    server = serve(context=60)
    engine = engine_at(server)
    first, second = requests_for(student, 2)
    long = replace(first, prompt_ids=(first.prompt_ids * 9)[:60])
    completions = engine.generate([first, long, second])
    assert ids(completions) == [*expected(student, [first]), (), *expected(student, [second])]
    assert completions[1].finish_reason == "overlong" and completions[1].prompt_ids == long.prompt_ids
    assert len(server.payloads("generate")) == 2


def test_a_response_is_cut_at_the_end_of_the_context(serve, engine_at, student):
    server = serve(context=60)
    engine = engine_at(server)
    (request,) = requests_for(student, 1, max_new_tokens=40)
    filled = replace(request, prompt_ids=(request.prompt_ids * 9)[:55])
    (completion,) = engine.generate([filled])
    assert [payload["sampling_params"]["max_new_tokens"] for payload in server.payloads("generate")] == [5]
    assert 1 <= len(completion.token_ids) <= 5


def test_closing_the_engine_wakes_all_waiting_threads(serve, engine_at, student):
    """A run that ends with an error closes its engine while threads wait for reflections; it must not hang."""
    server = serve()
    engine = engine_at(server, timeout=120)
    server.script("generate", None, "hang")
    requests = requests_for(student, 2)
    stream = engine.stream(requests)
    next(stream)
    errors: dict[str, BaseException] = {}

    def wait_for(name, **options):
        try:
            engine.generate(requests[:1], **options)
        except BaseException as error:
            errors[name] = error

    waiting = [
        threading.Thread(target=wait_for, args=("a response",), daemon=True),
        threading.Thread(target=wait_for, args=("other weights",), kwargs={"weights": "initial"}, daemon=True),
    ]
    server.script("generate", "hang")
    for thread in waiting:
        thread.start()
    while len(server.payloads("generate")) < 3:
        time.sleep(0.01)
    engine.close()
    for thread in waiting:
        thread.join(60)
    assert errors.keys() == {"a response", "other weights"}
    with pytest.raises(EngineError, match="closed"):
        engine.generate(requests)
    engine.close()
