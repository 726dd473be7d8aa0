"""New weights reach the server by all three ways, whole, labelled, and without the adapter's own names."""

from __future__ import annotations

import threading
import urllib.request
from contextlib import suppress

import pytest
import torch

from tests.sglang.conftest import greedy, move, of_transformers

WAYS = ["disk", "tensor", "distributed"]


def ids(completions) -> list[tuple[int, ...]]:
    return [c.token_ids for c in completions]


@pytest.mark.parametrize("way", WAYS)
def test_new_weights_answer_after_a_sync(student, engine_at, way):
    engine, reference = engine_at(student, sync=way), of_transformers(student)
    before = ids(greedy(student, engine))
    for version in (1, 2):
        move(student, 0.1)
        engine.sync(student, version)
        after = greedy(student, engine)
        assert ids(after) == ids(greedy(student, reference))
        assert {c.weight_version for c in after} == {version}
    assert ids(after) != before, "or the test would see no difference"
    told = engine.metrics()
    size = sum(p.nbytes for p in student.model.parameters()) / 2**20
    assert told["engine/sync_mib"] == pytest.approx(3 * size) and told["engine/probe_max"] < 1e-4


def test_questions_about_health_do_not_disturb_transfers(student, engine_at, server):
    """SGLang answers them by making a token, and an update that finds a request under way and must flush ends the server."""
    engine = engine_at(student)
    asking = threading.Event()

    def ask() -> None:
        while not asking.wait(0.05):
            with suppress(OSError), urllib.request.urlopen(f"{server.command.url}/health", timeout=30):
                pass

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for version in range(1, 11):
            engine.sync(student, version)
    finally:
        asking.set()
        for thread in threads:
            thread.join()
    assert ids(greedy(student, engine)) == ids(greedy(student, of_transformers(student)))


@pytest.mark.parametrize("way", WAYS)
def test_frozen_weights_are_swapped_in_and_out(student, engine_at, way):
    engine, reference = engine_at(student, sync=way), of_transformers(student)
    move(student, 0.1)
    engine.sync(student, 1)
    frozen, live = greedy(student, engine, weights="initial"), greedy(student, engine)
    assert ids(frozen) == ids(greedy(student, reference, weights="initial"))
    assert ids(live) == ids(greedy(student, reference)) != ids(frozen)


@pytest.mark.parametrize("way", WAYS)
def test_adapters_arrive_merged(lora_student, engine_at, way):
    engine, reference = engine_at(lora_student, sync=way), of_transformers(lora_student)
    base = {name: weight.clone() for name, weight in lora_student.model.named_parameters() if not weight.requires_grad}
    move(lora_student, 0.5)
    engine.sync(lora_student, 1)
    assert ids(greedy(lora_student, engine)) == ids(greedy(lora_student, reference))
    assert ids(greedy(lora_student, engine, weights="initial")) == ids(greedy(lora_student, reference, weights="initial"))
    for name, weight in lora_student.model.named_parameters():
        assert name not in base or torch.equal(weight, base[name]), "merging leaves the trainer's own weights alone"
