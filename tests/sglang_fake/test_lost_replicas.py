"""Several servers: work is shared, one that is gone for good is done without, and the run ends when none is left."""

from __future__ import annotations

import threading
import time

import pytest

from rosd_kit.errors import EngineError
from tests.sglang_fake import fake
from tests.sglang_fake.asking import expected, ids, requests_for, train


def test_work_is_shared_and_each_server_has_so_much_at_once(serve, engine_at, student):
    servers = [serve(), serve()]
    engine = engine_at(*servers, concurrency=3)
    lock, under_way, most = threading.Lock(), [0, 0], [0, 0]

    def watched(at):
        def watch(server, answer):
            with lock:
                under_way[at] += 1
                most[at] = max(most[at], under_way[at])
            time.sleep(0.05 if at else 0.2)
            with lock:
                under_way[at] -= 1
            return answer

        return watch

    for at, server in enumerate(servers):
        server.script("generate", *[watched(at)] * 24)
    requests = requests_for(student, 24, most=2)
    assert ids(engine.generate(requests)) == expected(student, requests)
    slow, quick = (len(server.asked("generate")) for server in servers)
    assert slow + quick == 24 and 3 <= slow < quick, "who has room takes the next request"
    assert most == [3, 3]


def test_one_dies_for_good_and_the_other_finishes_the_batch(serve, engine_at, student):
    first, second = serve(), serve()
    engine = engine_at(first, second, patience=0.6)
    first.script("generate", None, fake.dying)
    requests = requests_for(student, 32, most=4)
    began = time.monotonic()
    found = list(engine.stream(requests))
    assert time.monotonic() - began < 5, "its end is waited for once, not once for each of its requests"
    assert sorted(place for place, _ in found) == list(range(32))
    assert [c.token_ids for _, c in sorted(found, key=lambda pair: pair[0])] == expected(student, requests)
    assert engine.metrics()["engine/lost"] == 1


def test_without_any_server_the_error_says_that_the_run_can_go_on(serve, engine_at, student):
    servers = [serve(), serve()]
    engine = engine_at(*servers, patience=0.3)
    for server in servers:
        server.script("generate", None, fake.dying)
    with pytest.raises(EngineError) as error:
        engine.generate(requests_for(student, 16))
    said = str(error.value)
    assert all(f"no healthy SGLang server at {server.url} after 0 s" in said for server in servers)
    assert "No server is left" in said and "rosd-kit run --resume" in said


@pytest.mark.parametrize("probe", [False, True])
def test_one_that_died_between_the_steps_is_done_without(serve, engine_at, student, probe):
    first, second = serve(), serve()
    engine = engine_at(first, second, patience=0.3, check={"every": 0, "probe": probe})
    train(student)
    first.die()
    engine.sync(student, 1)
    requests = requests_for(student, 4)
    assert ids(engine.generate(requests)) == expected(student, requests)
    assert engine.metrics()["engine/lost"] == 1


def test_one_that_dies_during_the_probe_is_done_without(serve, engine_at, student):
    first, second = serve(), serve()
    engine = engine_at(first, second, patience=0.3, check={"every": 0, "probe": True})
    train(student)
    first.script("score", fake.dying)
    engine.sync(student, 1)
    requests = requests_for(student, 4)
    assert ids(engine.generate(requests)) == expected(student, requests)


def test_requests_go_through_the_router_and_weights_past_it(serve, engine_at, student):
    server = serve()
    router = serve(brain=server.brain)
    label = property(lambda self: server.label, lambda self, value: None)
    router.__class__ = type("Router", (fake.FakeServer,), {"label": label})
    engine = engine_at(server, router=router.url)
    train(student)
    engine.sync(student, 1)
    router.script("generate", None, 503)
    requests = requests_for(student, 4)
    assert ids(engine.generate(requests)) == expected(student, requests)
    assert set(router.routes()) == {"/generate"} and len(router.asked("generate")) == 5
    assert server.asked("generate") == [] and len(server.asked("/update_weights_from_disk")) == 2
