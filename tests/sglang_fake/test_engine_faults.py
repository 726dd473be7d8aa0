"""Whatever fails on the way, a batch is finished: each request answered once, in its place, from the right weights."""

from __future__ import annotations

import random
import threading
import time
from dataclasses import replace

import pytest
import torch

from rosd_kit.errors import EngineError
from tests.sglang_fake import fake
from tests.sglang_fake.asking import expected, ids, requests_for, train

PASSING = {
    "503": (503, "unavailable"),
    "closed": ("closed", "unreachable"),
    "half an answer": ("cut", "unreachable"),
    "half a JSON": ("truncated", "garbled"),
    "aborted with HTTP 200": (fake.aborted, "aborted"),
    "other weights": (fake.stale, "stale"),
    "weights that changed on the way": (fake.mixed, "stale"),
    "no answer": ("hang", "timeout"),
}


def total(numbers, prefix="engine/fault/"):
    return sum(value for name, value in numbers.items() if name.startswith(prefix))


@pytest.mark.parametrize("name", PASSING)
def test_a_fault_is_retried_and_counted(serve, engine_at, student, name):
    fault, kind = PASSING[name]
    server = serve()
    engine = engine_at(server, concurrency=1, timeout=1.0 if kind == "timeout" else 5.0)
    requests = requests_for(student, 4)
    count = 1 if kind == "timeout" else 2
    server.script("generate", None, *[fault] * count, None)
    assert ids(engine.generate(requests)) == expected(student, requests)
    told = engine.metrics()
    assert (told[f"engine/fault/{kind}"], told["engine/retries"], total(told)) == (count, count, count)
    assert len(server.asked("generate")) == len(requests) + count
    assert len(server.asked("/update_weights_from_disk")) == 1, "the server held the weights all the time"


def test_a_hundred_faults_in_one_batch(serve, engine_at, student):
    rng = random.Random(0)
    kinds = [503, "closed", "cut", "truncated", fake.aborted, fake.stale, fake.mixed, fake.restarting]
    faults = [rng.choice(kinds) for _ in range(100)]
    script = [*faults, *[None] * 20]
    rng.shuffle(script)
    server = serve()
    engine = engine_at(server, concurrency=8, tries=200)
    server.script("generate", *script)
    requests = requests_for(student, 40, most=3)
    found = list(engine.stream(requests))
    assert sorted(place for place, _ in found) == list(range(40))
    assert [completion.token_ids for _, completion in sorted(found, key=lambda pair: pair[0])] == expected(student, requests)
    told = engine.metrics()
    assert total(told) == told["engine/retries"] >= 100
    assert 1 <= told["engine/resyncs"] <= faults.count(fake.restarting)


def test_after_the_last_try_the_error_names_the_cause_and_the_remedy(serve, engine_at, student):
    server = serve()
    engine = engine_at(server, tries=3)
    server.script("generate", "closed", "truncated", 503)
    with pytest.raises(EngineError, match=r"failed 3 times; the last time: unavailable: .*HTTP 503(.|\n)*run --resume"):
        engine.generate(requests_for(student, 1))


def test_a_wrong_request_is_not_tried_again(serve, engine_at, student):
    server = serve()
    engine = engine_at(server)
    server.script("generate", 400)
    with pytest.raises(EngineError, match=r"the server refuses a request: .*HTTP 400 .*scripted 400"):
        engine.generate(requests_for(student, 1))
    assert len(server.asked("generate")) == 1


def test_a_server_restarted_with_old_weights_gets_the_new_ones(serve, engine_at, student):
    server = serve()
    engine = engine_at(server, concurrency=2)
    requests = requests_for(student, 8)
    before = expected(student, requests)
    train(student)
    engine.sync(student, 1)
    server.script("generate", None, None, fake.restarting)
    found = engine.generate(requests)
    assert ids(found) == expected(student, requests) != before
    assert {completion.weight_version for completion in found} == {1}
    assert engine.metrics()["engine/resyncs"] == 1
    assert all(torch.equal(weight, student.state()[name]) for name, weight in server.brain.weights().items())


def test_a_server_restarted_in_silence_is_found_out_by_its_label(serve, engine_at, student):
    server = serve()
    engine = engine_at(server)
    train(student)
    engine.sync(student, 1)
    server.restart()
    requests = requests_for(student, 4)
    assert ids(engine.generate(requests)) == expected(student, requests)
    assert engine.metrics()["engine/fault/stale"] >= 1


def test_a_server_that_comes_back_in_time_is_waited_for(serve, engine_at, student):
    server = serve()
    engine = engine_at(server, patience=20)
    requests = requests_for(student, 8)

    def be_gone_for_a_while(server, answer):
        server.die()
        threading.Timer(0.3, lambda: (server.restart(), server.come_back())).start()
        return answer

    server.script("generate", None, be_gone_for_a_while)
    assert ids(engine.generate(requests)) == expected(student, requests)
    assert engine.metrics()["engine/resyncs"] == 1


@pytest.mark.parametrize("route", ["/update_weights_from_disk", "/model_info"])
@pytest.mark.parametrize("fault", [503, "closed", fake.restarting])
def test_a_fault_while_weights_travel_is_mended(serve, engine_at, student, route, fault):
    server = serve()
    engine = engine_at(server)
    train(student)
    server.script(route, fault)
    engine.sync(student, 1)
    requests = requests_for(student, 2)
    assert ids(engine.generate(requests)) == expected(student, requests)
    assert total(engine.metrics()) == 1


def test_a_server_that_will_not_take_the_weights_ends_the_run(serve, engine_at, student):
    server = serve()
    engine = engine_at(server)
    server.script("/update_weights_from_disk", 400)
    with pytest.raises(EngineError, match=r"the server refuses the weights: .*scripted 400(.|\n)*run --resume"):
        engine.sync(student, 1)


def test_a_server_that_never_wears_the_label_ends_the_run(serve, engine_at, student):
    server = serve()
    engine = engine_at(server)
    server.told_label = "mine"
    with pytest.raises(EngineError, match=r"could not be given weights: stale: .* says it holds 'mine' after it was given"):
        engine.sync(student, 1)


def test_an_id_outside_the_vocabulary_stays_here(serve, engine_at, student):
    server = serve()
    engine = engine_at(server)
    (request,) = requests_for(student, 1)
    for strange in (student.vocabulary, -1):
        with pytest.raises(EngineError, match=rf"holds the id {strange}, the model knows 0 to 211.*correct model\.path"):
            engine.generate([request, replace(request, prompt_ids=(*request.prompt_ids, strange))])
    assert server.asked("generate") == [], "not even the good one was sent"
    assert engine.generate([request])[0].token_ids


def test_a_prompt_too_long_for_the_server_is_an_outcome_in_its_place(serve, engine_at, student):
    server = serve(context=60)
    engine = engine_at(server)
    first, second = requests_for(student, 2)
    long = replace(first, prompt_ids=(first.prompt_ids * 9)[:60])
    found = engine.generate([first, long, second])
    assert ids(found) == [*expected(student, [first]), (), *expected(student, [second])]
    assert [completion.finish_reason for completion in found][1] == "overlong" and found[1].prompt_ids == long.prompt_ids
    assert len(server.asked("generate")) == 2


def test_the_room_that_is_left_bounds_a_response(serve, engine_at, student):
    server = serve(context=60)
    engine = engine_at(server)
    (request,) = requests_for(student, 1, most=40)
    filled = replace(request, prompt_ids=(request.prompt_ids * 9)[:55])
    (found,) = engine.generate([filled])
    assert [asked["sampling_params"]["max_new_tokens"] for asked in server.asked("generate")] == [5]
    assert 1 <= len(found.token_ids) <= 5


def test_an_engine_that_is_closed_lets_go_of_whoever_waits(serve, engine_at, student):
    """A run that ends with an error closes its engine while threads wait for reflections; it must not hang then."""
    server = serve()
    engine = engine_at(server, timeout=60)
    server.script("generate", None, "hang")
    requests = requests_for(student, 2)
    answers = engine.stream(requests)
    next(answers)
    ends: dict[str, BaseException] = {}

    def wait_for(name, **options):
        try:
            engine.generate(requests[:1], **options)
        except BaseException as error:
            ends[name] = error

    waiting = [
        threading.Thread(target=wait_for, args=("an answer",), daemon=True),
        threading.Thread(target=wait_for, args=("other weights",), kwargs={"weights": "initial"}, daemon=True),
    ]
    server.script("generate", "hang")
    for thread in waiting:
        thread.start()
    while len(server.asked("generate")) < 3:
        time.sleep(0.01)
    engine.close()
    for thread in waiting:
        thread.join(5)
    assert ends.keys() == {"an answer", "other weights"}
    with pytest.raises(EngineError, match="closed"):
        engine.generate(requests)
    engine.close()
