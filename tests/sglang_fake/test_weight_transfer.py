"""The three ways of weights: what arrives is what was sent, under its label, and a failure on the way is done over."""

from __future__ import annotations

import asyncio
import base64
import itertools
import subprocess
import sys
import threading
import time
from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rosd_kit.errors import EngineError
from rosd_kit.sglang.client import Client
from rosd_kit.sglang.weight_transfer import DiskTransfer, LabeledWeights, distributed, tensor
from rosd_kit.sglang.weight_transfer.base import buckets, with_last_flag
from rosd_kit.sglang.weight_transfer.scratch import ScratchFolder
from tests.sglang_fake import fake
from tests.sglang_fake.asking import expected, ids, requests_for, train

WAYS = ["disk", "tensor", "distributed"]
IN_BRACKETS = ["tensor", "distributed"]
UPDATE = {"disk": "/update_weights_from_disk", **{way: f"/update_weights_from_{way}" for way in IN_BRACKETS}}
DTYPES = [torch.float32, torch.bfloat16, torch.int8]


@pytest.fixture
def small_buckets(monkeypatch):
    """Cut weights into many pieces, as those of a large model would be."""
    for module in (tensor, distributed):
        monkeypatch.setattr(module, "buckets", partial(buckets, limit=300_000))


def assert_holds(server, student):
    held = server.brain.weights()
    assert held.keys() == student.state().keys()
    assert all(torch.equal(weight, held[name]) for name, weight in student.state().items())


@pytest.mark.parametrize("way", WAYS)
def test_every_weight_arrives_bit_for_bit_and_under_its_label(serve, engine_at, student, way, small_buckets):
    server = serve()
    engine = engine_at(server, sync=way)
    for version in (1, 2):
        train(student)
        engine.metrics()
        engine.sync(student, version)
        assert_holds(server, student)
        assert server.label.endswith(f"-{version}")
        size = sum(weight.nbytes for weight in student.state().values())
        assert engine.metrics()["engine/sync_mib"] == pytest.approx(size / 2**20)
    assert len(server.asked("/init_weights_update_group")) == (way == "distributed"), "a group is made once"


@pytest.mark.parametrize("way", IN_BRACKETS)
def test_only_the_last_piece_has_the_label_and_the_cache_is_emptied_afterwards(serve, engine_at, student, way, small_buckets):
    server = serve()
    engine_at(server, sync=way)
    pieces = server.asked(UPDATE[way])
    assert len(pieces) > 5
    assert ["weight_version" in piece for piece in pieces] == [*[False] * (len(pieces) - 1), True]
    routes = [heard.route for heard in server.heard]
    assert routes.index("/flush_cache") > max(place for place, route in enumerate(routes) if route == UPDATE[way])


@pytest.mark.parametrize("way", IN_BRACKETS)
@pytest.mark.parametrize(("version", "brackets"), [("0.5.17", 0), ("0.5.20", 0), ("0.5.21", 1), ("0.5.23", 1)])
def test_an_update_has_a_beginning_and_an_end_since_0_5_21(serve, engine_at, student, way, version, brackets):
    server = serve(version=version)
    engine_at(server, sync=way)
    assert_holds(server, student)
    between = [route for route in server.routes() if route.endswith("_weight_update") or route == UPDATE[way]]
    begin, end = ["/begin_weight_update"] * brackets, ["/end_weight_update"] * brackets
    assert between == [*begin, UPDATE[way], *end]


@pytest.mark.parametrize("way", IN_BRACKETS)
def test_an_update_that_somebody_left_open_is_ended_and_begun_anew(serve, engine_at, student, way):
    server = serve()
    server.updating = True
    engine_at(server, sync=way)
    assert_holds(server, student)
    assert [route for route in server.routes() if route.endswith("_weight_update")] == [
        "/begin_weight_update",
        "/end_weight_update",
        "/begin_weight_update",
        "/end_weight_update",
    ]
    assert not server.updating


@pytest.mark.parametrize("fault", [503, "closed", fake.restarting])
@pytest.mark.parametrize("way", IN_BRACKETS)
def test_an_update_that_fails_in_the_middle_is_done_over(serve, engine_at, student, way, fault, small_buckets):
    server = serve()
    engine = engine_at(server, sync=way)
    train(student)
    server.script(UPDATE[way], None, None, fault)
    began = time.monotonic()
    engine.sync(student, 1)
    assert time.monotonic() - began < 10
    assert_holds(server, student)
    assert not server.updating
    assert len(server.asked("/init_weights_update_group")) == 2 * (way == "distributed"), "a group that failed is left"


@pytest.mark.parametrize("fault", [400, 503, "closed"])
def test_a_cache_that_was_not_dropped_is_not_used(serve, engine_at, student, fault):
    """The label is right by then, but what the server computed with the weights before would go on being used."""
    server = serve()
    engine = engine_at(server)
    train(student)
    server.script("/flush_cache", fault)
    server.heard.clear()
    engine.sync(student, 1)
    *_, last = (heard.route for heard in server.heard if heard.route in (UPDATE["disk"], "/flush_cache"))
    assert last == "/flush_cache" and len(server.asked("/flush_cache")) == 2
    assert_holds(server, student)


@pytest.mark.parametrize("way", WAYS)
def test_several_servers_are_given_the_same(serve, engine_at, student, way, small_buckets):
    servers = [serve(), serve(), serve()]
    engine = engine_at(*servers, sync=way)
    train(student)
    engine.sync(student, 1)
    for server in servers:
        assert_holds(server, student)


@pytest.mark.parametrize(("status", "message"), [(400, "refuses the weights: .*scripted 400"), (404, "HTTP 404")])
def test_a_server_that_will_not_join_a_group_is_not_waited_for(serve, engine_at, status, message):
    server = serve()
    server.script("/init_weights_update_group", status)
    began = time.monotonic()
    with pytest.raises(EngineError, match=message):
        engine_at(server, sync="distributed")
    assert time.monotonic() - began < 10


def test_a_group_that_could_not_be_made_is_tried_again(serve, engine_at, student):
    server = serve()
    server.script("/init_weights_update_group", 503)
    engine_at(server, sync="distributed")
    assert_holds(server, student)
    first, second = server.asked("/init_weights_update_group")
    assert first["group_name"] != second["group_name"]


def weight_set(label, count):
    """Return weights that count how often they are gone through."""

    def tensors():
        count.append(label)
        return iter([("a", torch.full((3,), float(len(count)))), ("b", torch.zeros(2, dtype=torch.bfloat16))])

    return LabeledWeights(label, tensors)


def test_files_are_written_once_for_all_servers_and_the_set_before_is_deleted(tmp_path):
    folder, asked, written = tmp_path / "rosd-kit-test", [], []

    class Told(Client):
        async def post(self, route, payload):
            asked.append((route, payload["weight_version"], payload["model_path"]))
            return {"success": True}

    async def carry():
        carrier = DiskTransfer(folder, lambda place: (place / "config.json").write_text("{}"))
        clients = [Told("http://127.0.0.1:1", timeout=1.0) for _ in range(3)]
        (folder / "weights-a.part").mkdir(parents=True)
        for label in ("a", "a", "b"):
            await asyncio.gather(*(carrier.carry(weight_set(label, written), client, None) for client in clients))
            (whole,) = folder.glob("weights-*")
            assert whole.name == f"weights-{label}"
            assert {file.suffix for file in whole.iterdir()} == {".json", ".safetensors"}
        await carrier.close()
        await asyncio.gather(*(client.close() for client in clients))

    asyncio.run(carry())
    (route,) = {route for route, _, _ in asked}
    assert route == "/update_weights_from_disk"
    assert [(label, path) for _, label, path in asked] == [(x, str(folder / f"weights-{x}")) for x in "aaaaaabbb"]
    assert written == ["a", "b"] and not folder.exists()


def test_what_a_killed_run_left_is_removed_and_what_a_living_one_holds_is_not(tmp_path):
    held, abandoned, stranger = (tmp_path / name for name in ("rosd-kit-held", "rosd-kit-abandoned", "other"))
    living = ScratchFolder(held)
    living.open()
    script = (
        "import os; from pathlib import Path; from rosd_kit.sglang.weight_transfer.scratch import ScratchFolder\n"
        f"ScratchFolder(Path({str(abandoned)!r})).open(); os._exit(1)"
    )
    subprocess.run([sys.executable, "-c", script], check=False)
    stranger.mkdir()
    assert abandoned.is_dir()
    mine = ScratchFolder(tmp_path / "rosd-kit-mine")
    assert mine.open() == mine.open()
    assert sorted(place.name for place in tmp_path.iterdir()) == ["other", "rosd-kit-held", "rosd-kit-mine"]
    mine.close(), living.close()
    assert [place.name for place in tmp_path.iterdir()] == ["other"]


def test_a_folder_that_cannot_be_written_is_named_with_the_remedy(serve, engine_at, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(
        EngineError, match=r"rollout\.sync_dir: .*file/rosd-kit-.* cannot be written: .*room for two sets of weights"
    ):
        engine_at(serve(), sync_dir=str(tmp_path / "file"))


def test_nothing_of_the_weights_is_left_when_the_engine_is_closed(serve, engine_at, student, tmp_path):
    shared = tmp_path / "shared"
    server = serve()
    engine = engine_at(server, sync_dir=str(shared))
    (asked,) = server.asked("/update_weights_from_disk")
    assert asked["model_path"].startswith(str(shared)) and list(shared.rglob("*.safetensors"))
    engine.close()
    assert list(shared.rglob("*")) == []


def test_memory_is_shared_by_name_whoever_else_shares_at_the_same_time():
    """A handle that is a file descriptor would mean nothing to a server, and kill it."""
    before = torch.multiprocessing.get_sharing_strategy()
    handles, held = [], []

    def share():
        for _ in range(20):
            flat, handle = tensor._shared([("a", torch.ones(5)), ("b", torch.ones(3))])
            held.append(flat)
            handles.append(base64.b64decode(handle))

    threads = [threading.Thread(target=share) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(handles) == 160 and all(b"rebuild_storage_filename" in handle for handle in handles)
    assert torch.multiprocessing.get_sharing_strategy() == before


TENSORS = st.lists(st.tuples(st.integers(0, 12), st.sampled_from(DTYPES)), max_size=12)


@given(shapes=TENSORS, limit=st.integers(1, 60))
def test_buckets_keep_order_dtype_and_limit(shapes, limit):
    tensors = [(f"w{i}", torch.zeros(size, dtype=dtype)) for i, (size, dtype) in enumerate(shapes)]
    found = list(buckets(iter(tensors), limit))
    assert [pair for bucket in found for pair in bucket] == tensors
    for bucket in found:
        assert len({tensor.dtype for _, tensor in bucket}) == 1
        assert sum(tensor.nbytes for _, tensor in bucket) <= limit or len(bucket) == 1
    for bucket, following in itertools.pairwise(found):
        (_, first), size = following[0], sum(tensor.nbytes for _, tensor in bucket)
        assert first.dtype != bucket[0][1].dtype or size + first.nbytes > limit, "the two would have fitted together"


@given(st.lists(st.integers(), min_size=1))
def test_only_the_last_is_marked(values):
    assert list(with_last_flag(iter(values))) == [(value, place == len(values) - 1) for place, value in enumerate(values)]


def test_answers_after_a_change_of_way_come_from_the_new_weights(serve, engine_at, student):
    """Two runs, one after the other, may bring weights to one server in different ways."""
    server = serve()
    requests = requests_for(student, 2)
    for way in WAYS:
        train(student)
        engine = engine_at(server, sync=way)
        assert ids(engine.generate(requests)) == expected(student, requests)
