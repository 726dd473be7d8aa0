"""Several servers: they share the work, the run continues without lost ones, and it ends when none is left."""

from __future__ import annotations

import threading

import pytest

from rosd_kit.errors import EngineError
from rosd_kit.serving.replica import Replica
from tests.sglang_fake import fake_server
from tests.sglang_fake.helpers import expected, ids, requests_for, train


def test_servers_share_the_work_and_none_exceeds_its_concurrency(serve, engine_at, student):
    servers = [serve(), serve()]
    engine = engine_at(*servers, concurrency=3)
    lock, in_flight, peak = threading.Lock(), [0, 0], [0, 0]
    all_busy, rest_done, answered = threading.Barrier(6), threading.Event(), []

    def hold(index, number):
        """The first three requests wait until both servers have three; those of the first server also for all the rest."""

        def fault(server, response):
            with lock:
                in_flight[index] += 1
                peak[index] = max(peak[index], in_flight[index])
            if number < 3:
                all_busy.wait(60)
            if index == 0:
                rest_done.wait(60)
            with lock:
                in_flight[index] -= 1
                answered.extend([number] * index)
            if len(answered) == 21:
                rest_done.set()
            return response

        return fault

    for index, server in enumerate(servers):
        server.script("generate", *[hold(index, number) for number in range(24)])
    requests = requests_for(student, 24, max_new_tokens=2)
    assert ids(engine.generate(requests)) == expected(student, requests)
    slow, quick = (len(server.payloads("generate")) for server in servers)
    assert (slow, quick) == (3, 21), "the less busy one gets the next request"
    assert peak == [3, 3]


def test_when_one_server_dies_the_other_finishes_the_batch(serve, engine_at, student, monkeypatch):
    first, second = serve(), serve()
    engine = engine_at(first, second, patience=0.6)
    first.script("generate", None, fake_server.dying)
    waits, wait = [], Replica._wait_until_healthy

    async def counted(replica, seconds):
        waits.append(seconds)
        await wait(replica, seconds)

    monkeypatch.setattr(Replica, "_wait_until_healthy", counted)
    requests = requests_for(student, 32, max_new_tokens=4)
    streamed = list(engine.stream(requests))
    assert waits == [0.6], "waits once for its return, not once per request"
    assert sorted(index for index, _ in streamed) == list(range(32))
    assert [c.token_ids for _, c in sorted(streamed, key=lambda pair: pair[0])] == expected(student, requests)
    assert engine.metrics()["engine/lost"] == 1


def test_when_no_server_is_left_the_error_names_all_and_how_to_resume(serve, engine_at, student):
    servers = [serve(), serve()]
    engine = engine_at(*servers, patience=0.3)
    for server in servers:
        server.script("generate", None, fake_server.dying)
    with pytest.raises(EngineError) as error:
        engine.generate(requests_for(student, 16))
    message = str(error.value)
    assert all(f"no healthy SGLang server at {server.url} after 0 s" in message for server in servers)
    assert "No server is left" in message and "rosd-kit run --resume" in message


@pytest.mark.parametrize("probe", [False, True])
def test_a_sync_continues_without_a_server_that_died_before(serve, engine_at, student, probe):
    first, second = serve(), serve()
    engine = engine_at(first, second, patience=0.3, check={"every": 0, "probe": probe})
    train(student)
    first.die()
    engine.sync(student, 1)
    requests = requests_for(student, 4)
    assert ids(engine.generate(requests)) == expected(student, requests)
    assert engine.metrics()["engine/lost"] == 1


def test_a_sync_continues_without_a_server_that_dies_during_the_probe(serve, engine_at, student):
    first, second = serve(), serve()
    engine = engine_at(first, second, patience=0.3, check={"every": 0, "probe": True})
    train(student)
    first.script("score", fake_server.dying)
    engine.sync(student, 1)
    requests = requests_for(student, 4)
    assert ids(engine.generate(requests)) == expected(student, requests)


def test_requests_go_through_the_router_and_weights_to_the_server(serve, engine_at, student):
    server = serve()
    router = serve(backend=server.backend)
    label = property(lambda self: server.label, lambda self, value: None)
    router.__class__ = type("Router", (fake_server.FakeServer,), {"label": label})
    engine = engine_at(server, router=router.url)
    train(student)
    engine.sync(student, 1)
    router.script("generate", None, 503)
    requests = requests_for(student, 4)
    assert ids(engine.generate(requests)) == expected(student, requests)
    assert set(router.routes()) == {"/generate"} and len(router.payloads("generate")) == 5
    assert server.payloads("generate") == [] and len(server.payloads("/update_weights_from_disk")) == 2
