"""Requests for the weights that the run began with: on servers of their own, or by swapping under labels."""

from __future__ import annotations

import threading

import pytest

from tests.sglang_fake import fake
from tests.sglang_fake.asking import expected, ids, requests_for, train


def labels(server):
    return [asked["weight_version"].partition("-")[2] for asked in server.asked("/update_weights_from_disk")]


def test_servers_of_their_own_are_asked_and_the_others_never_swapped(serve, engine_at, student):
    live, frozen = serve(), serve()
    engine = engine_at(live, initial_url=frozen.url)
    train(student)
    engine.sync(student, 1)
    requests = requests_for(student, 4)
    assert ids(engine.generate(requests, weights="initial")) == expected(student, requests, weights="initial")
    assert ids(engine.generate(requests)) == expected(student, requests) != expected(student, requests, weights="initial")
    assert (labels(live), labels(frozen)) == (["0", "1"], ["initial"])
    assert (len(live.asked("generate")), len(frozen.asked("generate"))) == (4, 4)


def test_without_them_weights_are_swapped_in_and_out(serve, engine_at, student):
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


def test_a_frozen_server_that_restarts_gets_the_frozen_weights(serve, engine_at, student):
    live, frozen = serve(), serve()
    engine = engine_at(live, initial_url=frozen.url)
    train(student)
    engine.sync(student, 1)
    frozen.script("generate", fake.restarting)
    requests = requests_for(student, 2)
    assert ids(engine.generate(requests, weights="initial")) == expected(student, requests, weights="initial")
    assert labels(frozen) == ["initial", "initial"] and labels(live) == ["0", "1"]


@pytest.mark.parametrize("swapping", [False, True])
def test_both_kinds_asked_at_once_from_many_threads_never_mix(serve, engine_at, student, swapping):
    live, frozen = serve(), serve()
    engine = engine_at(live, **({} if swapping else {"initial_url": frozen.url}))
    train(student)
    engine.sync(student, 1)
    requests = requests_for(student, 3, most=4)
    wanted = {which: expected(student, requests, weights=which) for which in ("live", "initial")}
    wrong: list[object] = []

    def ask(which):
        for _ in range(3):
            try:
                found = ids(engine.generate(requests, weights=which))
            except Exception as error:
                found = [error]
            wrong.extend([] if found == wanted[which] else [(which, found)])

    threads = [threading.Thread(target=ask, args=(which,)) for which in ("live", "initial") * 4]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert wrong == [] and not any(thread.is_alive() for thread in threads)
    assert engine.metrics().get("engine/fault/stale", 0) == 0, "nobody's weights were taken away under its requests"
