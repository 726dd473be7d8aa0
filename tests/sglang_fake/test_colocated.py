"""Trainer and server share a GPU: its memory changes hands in an order that never leaves the server without what it needs."""

from __future__ import annotations

import socket
import threading

import pytest

from tests.sglang_fake.asking import expected, ids, requests_for, train

MEMORY = ("/flush_cache", "/release_memory_occupation", "/resume_memory_occupation", "/update_weights_from_disk")


@pytest.mark.parametrize("probe", [False, True])
def test_memory_is_given_away_and_taken_back_around_the_new_weights(serve, engine_at, student, probe):
    server = serve()
    engine = engine_at(server, colocated=True, check={"every": 0, "probe": probe})
    requests = requests_for(student, 2)
    for version in (1, 2):
        engine.generate(requests)
        server.heard.clear()
        engine.rest()
        assert server.released == {"kv_cache", "weights"}
        engine.rest()
        train(student)
        engine.sync(student, version)
        memory = [heard for heard in server.heard if heard.route in MEMORY]
        assert [(heard.route, *heard.payload.get("tags", ())) for heard in memory] == [
            ("/flush_cache",),
            ("/release_memory_occupation", "kv_cache", "weights"),
            ("/resume_memory_occupation", "weights"),
            ("/update_weights_from_disk",),
            ("/flush_cache",),
            ("/resume_memory_occupation", "kv_cache"),
        ]
        assert ids(engine.generate(requests)) == expected(student, requests)


def test_weights_that_were_not_given_away_are_not_taken_back(serve, engine_at, student):
    server = serve()
    engine = engine_at(server, colocated=True)
    train(student)
    engine.sync(student, 1)
    assert server.asked("/resume_memory_occupation") == []


def test_with_memory_of_its_own_a_server_is_left_alone(serve, engine_at, student):
    server = serve()
    engine = engine_at(server)
    engine.rest()
    engine.sync(student, 1)
    assert {route for route in server.routes() if route in MEMORY} == {"/update_weights_from_disk", "/flush_cache"}


@pytest.mark.parametrize("tag", ["weights", "kv_cache"])
def test_taking_back_is_tried_again(serve, engine_at, student, tag):
    server = serve()
    engine = engine_at(server, colocated=True)
    engine.rest()
    server.script("/resume_memory_occupation", *[503] if tag == "weights" else [None, 503])
    engine.sync(student, 1)
    assert server.released == set()


@pytest.mark.parametrize("tag", ["weights", "kv_cache"])
def test_taking_back_is_not_said_twice_when_only_the_answer_was_lost(serve, engine_at, student, tag):
    """It would end a real server, and does end the fake."""
    server = serve()
    engine = engine_at(server, colocated=True)
    engine.rest()
    server.heard.clear()
    server.script("/resume_memory_occupation", *[losing] if tag == "weights" else [None, losing])
    engine.sync(student, 1)
    assert server.released == set()
    assert [payload["tags"] for payload in server.asked("/resume_memory_occupation")] == [["weights"], ["kv_cache"]]


def losing(server, answer):
    """Do what was asked, and cut the connection before the answer is out."""
    for connection in list(server.connections):
        connection.shutdown(socket.SHUT_RDWR)
    return answer


@pytest.mark.parametrize("fault", [503, "closed"])
def test_memory_is_taken_back_when_the_weights_came_at_the_second_try(serve, engine_at, student, fault):
    server = serve()
    engine = engine_at(server, colocated=True, check={"every": 0, "probe": True})
    engine.rest()
    server.script("/update_weights_from_disk", fault)
    engine.sync(student, 1)
    assert server.released == set()


def test_a_server_that_began_anew_while_it_rested_has_its_memory_already(serve, engine_at, student):
    server = serve()
    engine = engine_at(server, colocated=True, patience=20)
    engine.rest()
    train(student)
    server.die()
    threading.Timer(0.3, lambda: (server.restart(), server.come_back())).start()
    engine.sync(student, 1)
    assert server.asked("/resume_memory_occupation") == []
    requests = requests_for(student, 2)
    assert ids(engine.generate(requests)) == expected(student, requests)
