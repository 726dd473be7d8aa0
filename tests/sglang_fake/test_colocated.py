"""Trainer and server share a GPU: the server always has the memory it needs when it is used."""

from __future__ import annotations

import socket
import threading

import pytest

from tests.sglang_fake.helpers import expected, ids, requests_for, train

MEMORY = ("/flush_cache", "/release_memory_occupation", "/resume_memory_occupation", "/update_weights_from_disk")


@pytest.mark.parametrize("probe", [False, True])
def test_memory_is_released_and_resumed_around_the_new_weights(serve, engine_at, student, probe):
    server = serve()
    engine = engine_at(server, colocated=True, check={"every": 0, "probe": probe})
    requests = requests_for(student, 2)
    for version in (1, 2):
        engine.generate(requests)
        server.received.clear()
        engine.rest()
        assert server.released == {"kv_cache", "weights"}
        engine.rest()
        train(student)
        engine.sync(student, version)
        memory = [request for request in server.received if request.route in MEMORY]
        assert [(request.route, *request.payload.get("tags", ())) for request in memory] == [
            ("/flush_cache",),
            ("/release_memory_occupation", "kv_cache", "weights"),
            ("/resume_memory_occupation", "weights"),
            ("/update_weights_from_disk",),
            ("/flush_cache",),
            ("/resume_memory_occupation", "kv_cache"),
        ]
        assert ids(engine.generate(requests)) == expected(student, requests)


def test_memory_that_was_not_released_is_not_resumed(serve, engine_at, student):
    server = serve()
    engine = engine_at(server, colocated=True)
    train(student)
    engine.sync(student, 1)
    assert server.payloads("/resume_memory_occupation") == []


def test_a_server_that_is_not_colocated_keeps_its_memory(serve, engine_at, student):
    server = serve()
    engine = engine_at(server)
    engine.rest()
    engine.sync(student, 1)
    assert {route for route in server.routes() if route in MEMORY} == {"/update_weights_from_disk", "/flush_cache"}


@pytest.mark.parametrize("tag", ["weights", "kv_cache"])
def test_resume_is_retried_when_the_server_is_unavailable(serve, engine_at, student, tag):
    server = serve()
    engine = engine_at(server, colocated=True)
    engine.rest()
    server.script("/resume_memory_occupation", *[503] if tag == "weights" else [None, 503])
    engine.sync(student, 1)
    assert server.released == set()


@pytest.mark.parametrize("tag", ["weights", "kv_cache"])
def test_resume_is_not_repeated_when_only_the_response_was_lost(serve, engine_at, student, tag):
    """A repeated request would crash a real server, and crashes the fake."""
    server = serve()
    engine = engine_at(server, colocated=True)
    engine.rest()
    server.received.clear()
    server.script("/resume_memory_occupation", *[lose_response] if tag == "weights" else [None, lose_response])
    engine.sync(student, 1)
    assert server.released == set()
    assert [payload["tags"] for payload in server.payloads("/resume_memory_occupation")] == [["weights"], ["kv_cache"]]


def lose_response(server, response):
    """Handle the request, and cut the connection before the response is sent."""
    for connection in list(server.connections):
        connection.shutdown(socket.SHUT_RDWR)
    return response


@pytest.mark.parametrize("fault", [503, "closed"])
def test_memory_is_resumed_when_the_second_transfer_succeeds(serve, engine_at, student, fault):
    server = serve()
    engine = engine_at(server, colocated=True, check={"every": 0, "probe": True})
    engine.rest()
    server.script("/update_weights_from_disk", fault)
    engine.sync(student, 1)
    assert server.released == set()


def test_a_server_that_restarted_while_resting_is_not_resumed(serve, engine_at, student):
    server = serve()
    engine = engine_at(server, colocated=True, patience=60)
    engine.rest()
    train(student)
    server.die()
    threading.Timer(0.3, lambda: (server.restart(), server.listen())).start()
    engine.sync(student, 1)
    assert server.payloads("/resume_memory_occupation") == []
    requests = requests_for(student, 2)
    assert ids(engine.generate(requests)) == expected(student, requests)


def test_the_trainer_gives_back_its_cached_memory_before_the_server_takes_its_own(serve, engine_at, student, monkeypatch):
    server = serve()
    engine = engine_at(server, colocated=True)
    freed_at: list[list[str]] = []
    resumed = "/resume_memory_occupation"
    monkeypatch.setattr(
        "rosd_kit.serving.colocation.free_cached_memory",
        lambda: freed_at.append(
            [tag for request in server.received if request.route == resumed for tag in request.payload["tags"]]
        ),
    )
    engine.rest()
    server.received.clear()
    engine.sync(student, 1)
    assert freed_at == [[], ["weights"]]  # before each of the two resumes
