"""New weights reach a real server by all three transfers, complete, labeled, and with adapters merged."""

from __future__ import annotations

import threading
import urllib.request
from contextlib import suppress

import pytest
import torch

from tests.sglang.conftest import greedy, train, transformers_engine

SYNCS = ["disk", "tensor", "distributed"]


def ids(completions) -> list[tuple[int, ...]]:
    return [c.token_ids for c in completions]


@pytest.mark.parametrize("sync", SYNCS)
def test_completions_after_a_sync_come_from_the_new_weights(student, engine_at, sync):
    engine, reference = engine_at(student, sync=sync), transformers_engine(student)
    before = ids(greedy(student, engine))
    for version in (1, 2):
        train(student, 0.1)
        engine.sync(student, version)
        after = greedy(student, engine)
        assert ids(after) == ids(greedy(student, reference))
        assert {c.weight_version for c in after} == {version}
    assert ids(after) != before, "otherwise the test proves nothing"
    metrics = engine.metrics()
    size = sum(p.nbytes for p in student.model.parameters()) / 2**20
    assert metrics["engine/sync_mib"] == pytest.approx(3 * size) and metrics["engine/probe_max"] < 1e-4


def test_health_checks_do_not_disturb_transfers(student, engine_at, server):
    """SGLang answers a health check by sampling a token, and exits if an update must flush while a request is running."""
    engine = engine_at(student)
    stopped = threading.Event()

    def check_health() -> None:
        while not stopped.wait(0.05):
            with suppress(OSError), urllib.request.urlopen(f"{server.command.url}/health", timeout=30):
                pass

    threads = [threading.Thread(target=check_health) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for version in range(1, 11):
            engine.sync(student, version)
    finally:
        stopped.set()
        for thread in threads:
            thread.join()
    assert ids(greedy(student, engine)) == ids(greedy(student, transformers_engine(student)))


@pytest.mark.parametrize("sync", SYNCS)
def test_initial_weights_are_swapped_in_and_out(student, engine_at, sync):
    engine, reference = engine_at(student, sync=sync), transformers_engine(student)
    train(student, 0.1)
    engine.sync(student, 1)
    frozen, live = greedy(student, engine, weights="initial"), greedy(student, engine)
    assert ids(frozen) == ids(greedy(student, reference, weights="initial"))
    assert ids(live) == ids(greedy(student, reference)) != ids(frozen)


@pytest.mark.parametrize("sync", SYNCS)
def test_adapters_arrive_merged(lora_student, engine_at, sync):
    engine, reference = engine_at(lora_student, sync=sync), transformers_engine(lora_student)
    base = {name: weight.clone() for name, weight in lora_student.model.named_parameters() if not weight.requires_grad}
    train(lora_student, 0.5)
    engine.sync(lora_student, 1)
    assert ids(greedy(lora_student, engine)) == ids(greedy(lora_student, reference))
    assert ids(greedy(lora_student, engine, weights="initial")) == ids(greedy(lora_student, reference, weights="initial"))
    for name, weight in lora_student.model.named_parameters():
        assert name not in base or torch.equal(weight, base[name]), "merging does not change the trainer's weights"
