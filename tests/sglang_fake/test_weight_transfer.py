"""The three transfers: weights arrive unchanged under their label, and a failed transfer is repeated."""

from __future__ import annotations

import asyncio
import base64
import itertools
import os
import threading
from datetime import timedelta
from functools import partial
from multiprocessing.reduction import ForkingPickler
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.multiprocessing import reductions

from rosd_kit.errors import EngineError
from rosd_kit.serving.weight_transfer import DiskTransfer, LabeledWeights
from rosd_kit.serving.weight_transfer.base import buckets, with_last_flag
from rosd_kit.serving.weight_transfer.scratch import ScratchFolder
from rosd_kit.sglang.client import SGLangClient
from rosd_kit.sglang.weight_transfer import distributed, tensor
from tests.sglang_fake import fake_server
from tests.sglang_fake.helpers import expected, ids, requests_for, train

SYNCS = ["disk", "tensor", "distributed"]
IN_SESSIONS = ["tensor", "distributed"]
UPDATE = {sync: f"/update_weights_from_{sync}" for sync in SYNCS}
DTYPES = [torch.float32, torch.bfloat16, torch.int8]


@pytest.fixture
def small_buckets(monkeypatch):
    """Split weights into many buckets, as those of a large model would be."""
    for module in (tensor, distributed):
        monkeypatch.setattr(module, "buckets", partial(buckets, limit=300_000))


@pytest.fixture
def endless_joins(monkeypatch):
    """Wait longer for a member of a group than a test may take."""
    monkeypatch.setattr(distributed, "_JOIN_TIMEOUT", timedelta(hours=1))


def assert_holds(server, student):
    weights = server.backend.weights()
    assert weights.keys() == student.state().keys()
    assert all(torch.equal(weight, weights[name]) for name, weight in student.state().items())


@pytest.mark.parametrize("sync", SYNCS)
def test_weights_arrive_bit_for_bit_under_their_label(serve, engine_at, student, sync, small_buckets):
    server = serve()
    engine = engine_at(server, sync=sync)
    for version in (1, 2):
        train(student)
        engine.metrics()
        engine.sync(student, version)
        assert_holds(server, student)
        assert server.label.endswith(f"-{version}")
        size = sum(weight.nbytes for weight in student.state().values())
        assert engine.metrics()["engine/sync_mib"] == pytest.approx(size / 2**20)
    assert len(server.payloads("/init_weights_update_group")) == (sync == "distributed"), "the group is reused"


@pytest.mark.parametrize("sync", IN_SESSIONS)
def test_only_the_last_bucket_has_the_label_and_the_cache_is_flushed_afterwards(serve, engine_at, student, sync, small_buckets):
    server = serve()
    engine_at(server, sync=sync)
    updates = server.payloads(UPDATE[sync])
    assert len(updates) > 5
    assert ["weight_version" in update for update in updates] == [*[False] * (len(updates) - 1), True]
    routes = [request.route for request in server.received]
    assert routes.index("/flush_cache") > max(index for index, route in enumerate(routes) if route == UPDATE[sync])


@pytest.mark.parametrize("sync", IN_SESSIONS)
@pytest.mark.parametrize(("version", "sessions"), [("0.5.17", 0), ("0.5.20", 0), ("0.5.21", 1), ("0.5.23", 1)])
def test_updates_run_in_a_session_since_0_5_21(serve, engine_at, student, sync, version, sessions):
    server = serve(version=version)
    engine_at(server, sync=sync)
    assert_holds(server, student)
    routes = [route for route in server.routes() if route.endswith("_weight_update") or route == UPDATE[sync]]
    begin, end = ["/begin_weight_update"] * sessions, ["/end_weight_update"] * sessions
    assert routes == [*begin, UPDATE[sync], *end]


@pytest.mark.parametrize("sync", IN_SESSIONS)
def test_a_session_that_was_left_open_is_ended_first(serve, engine_at, student, sync):
    server = serve()
    server.updating = True
    engine_at(server, sync=sync)
    assert_holds(server, student)
    assert [route for route in server.routes() if route.endswith("_weight_update")] == [
        "/begin_weight_update",
        "/end_weight_update",
        "/begin_weight_update",
        "/end_weight_update",
    ]
    assert not server.updating


@pytest.mark.parametrize("fault", [503, "closed", fake_server.restarting])
@pytest.mark.parametrize("sync", IN_SESSIONS)
def test_an_update_that_fails_in_the_middle_is_repeated(serve, engine_at, student, sync, fault, small_buckets, endless_joins):
    server = serve()
    engine = engine_at(server, sync=sync)
    train(student)
    server.script(UPDATE[sync], None, None, fault)
    engine.sync(student, 1)
    assert_holds(server, student)
    assert not server.updating
    assert len(server.payloads("/init_weights_update_group")) == 2 * (sync == "distributed"), "a failed group is replaced"


@pytest.mark.parametrize("fault", [400, 503, "closed"])
def test_a_failed_cache_flush_is_repeated(serve, engine_at, student, fault):
    """The label is already right, but the server would keep using a cache computed with the previous weights."""
    server = serve()
    engine = engine_at(server)
    train(student)
    server.script("/flush_cache", fault)
    server.received.clear()
    engine.sync(student, 1)
    *_, last = (request.route for request in server.received if request.route in (UPDATE["disk"], "/flush_cache"))
    assert last == "/flush_cache" and len(server.payloads("/flush_cache")) == 2
    assert_holds(server, student)


@pytest.mark.parametrize("sync", SYNCS)
def test_several_servers_get_the_same_weights(serve, engine_at, student, sync, small_buckets):
    servers = [serve(), serve(), serve()]
    engine = engine_at(*servers, sync=sync)
    train(student)
    engine.sync(student, 1)
    for server in servers:
        assert_holds(server, student)


@pytest.mark.parametrize(("status", "message"), [(400, "rejected the weights: .*scripted 400"), (404, "HTTP 404")])
def test_a_server_that_rejects_a_group_is_not_waited_for(serve, engine_at, status, message, endless_joins):
    server = serve()
    server.script("/init_weights_update_group", status)
    with pytest.raises(EngineError, match=message):
        engine_at(server, sync="distributed")


def test_a_group_that_could_not_be_created_is_retried_under_a_new_name(serve, engine_at, student):
    server = serve()
    server.script("/init_weights_update_group", 503)
    engine_at(server, sync="distributed")
    assert_holds(server, student)
    first, second = server.payloads("/init_weights_update_group")
    assert first["group_name"] != second["group_name"]


def counted_weights(label, reads):
    """Return weights that add their label to `reads` each time they are read."""

    def tensors():
        reads.append(label)
        return iter([("a", torch.full((3,), float(len(reads)))), ("b", torch.zeros(2, dtype=torch.bfloat16))])

    return LabeledWeights(label, tensors)


def test_files_are_written_once_for_all_servers_and_previous_weights_are_deleted(tmp_path):
    folder, posted, written = tmp_path / "rosd-kit-test", [], []

    class RecordingClient(SGLangClient):
        async def post(self, route, payload):
            posted.append((route, payload["weight_version"], payload["model_path"]))
            return {"success": True}

    async def send_all():
        transfer = DiskTransfer(folder, lambda path: (path / "config.json").write_text("{}"))
        clients = [RecordingClient("http://127.0.0.1:1", timeout=60.0) for _ in range(3)]
        (folder / "weights-a.part").mkdir(parents=True)
        for label in ("a", "a", "b"):
            await asyncio.gather(*(transfer.send(counted_weights(label, written), client, None) for client in clients))
            (complete,) = folder.glob("weights-*")
            assert complete.name == f"weights-{label}"
            assert {file.suffix for file in complete.iterdir()} == {".json", ".safetensors"}
        await transfer.close()
        await asyncio.gather(*(client.close() for client in clients))

    asyncio.run(send_all())
    (route,) = {route for route, _, _ in posted}
    assert route == "/update_weights_from_disk"
    assert [(label, path) for _, label, path in posted] == [(x, str(folder / f"weights-{x}")) for x in "aaaaaabbb"]
    assert written == ["a", "b"] and not folder.exists()


def test_scratch_folders_of_killed_runs_are_removed_and_those_of_running_ones_kept(tmp_path):
    locked, abandoned, unrelated = (tmp_path / name for name in ("rosd-kit-locked", "rosd-kit-abandoned", "other"))
    running = ScratchFolder(locked)
    running.open()
    if not (killed := os.fork()):
        try:
            ScratchFolder(abandoned).open()
        finally:
            os._exit(1)
    os.waitpid(killed, 0)
    unrelated.mkdir()
    assert abandoned.is_dir()
    new = ScratchFolder(tmp_path / "rosd-kit-new")
    assert new.open() == new.open()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other", "rosd-kit-locked", "rosd-kit-new"]
    new.close(), running.close()
    assert [path.name for path in tmp_path.iterdir()] == ["other"]


def test_the_error_about_an_unwritable_folder_names_the_remedy(serve, engine_at, tmp_path):
    (tmp_path / "file").write_text("in the sync")
    with pytest.raises(
        EngineError, match=r"rollout\.sync_dir: .*file/rosd-kit-.* cannot be written: .*space for two sets of weights"
    ):
        engine_at(serve(), sync_dir=str(tmp_path / "file"))


def test_closing_the_engine_removes_the_weights(serve, engine_at, student, tmp_path):
    shared = tmp_path / "shared"
    server = serve()
    engine = engine_at(server, sync_dir=str(shared))
    (payload,) = server.payloads("/update_weights_from_disk")
    assert payload["model_path"].startswith(str(shared)) and list(shared.rglob("*.safetensors"))
    engine.close()
    assert list(shared.rglob("*")) == []


def test_memory_is_shared_by_name_even_when_many_threads_share_at_once():
    """A file descriptor as the handle would mean nothing to a server, and crash it."""
    before = torch.multiprocessing.get_sharing_strategy()
    handles, tensors = [], []

    def share():
        for _ in range(20):
            flat, (handle,) = tensor._share([("a", torch.ones(5)), ("b", torch.ones(3))])
            tensors.append(flat)
            handles.append(base64.b64decode(handle))

    threads = [threading.Thread(target=share) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(handles) == 160 and all(b"rebuild_storage_filename" in handle for handle in handles)
    assert torch.multiprocessing.get_sharing_strategy() == before


def test_each_rank_of_a_server_gets_a_handle_of_its_own():
    """Torch counts the handles of a tensor; two ranks that open the same one would free it too early."""
    flat, handles = tensor._share([("a", torch.arange(5.0))], count=3)
    contents = [ForkingPickler.loads(base64.b64decode(handle)) for handle in handles]
    assert len(handles) == 3
    for content in contents:
        assert torch.equal(content["flattened_tensor"].view(torch.float32), torch.arange(5.0))
        assert content["metadata"][0].name == "a" and content["metadata"][0].shape == (5,)
    del flat


def test_memory_on_a_gpu_is_named_by_the_uuid_of_that_gpu(monkeypatch):
    """A server that sees one GPU numbers it 0, whatever its number is in the trainer."""
    arguments = (torch.Tensor, (4,), (1,), 0, torch.UntypedStorage, torch.uint8, 3, b"handle", 4, 0, False, b"", 0, b"", False)
    monkeypatch.setattr(reductions, "reduce_tensor", lambda tensor: (reductions.rebuild_cuda_tensor, arguments))
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(uuid=f"uuid-of-{device}"))
    rebuilt: list[tuple] = []
    with monkeypatch.context() as server:
        pickled = base64.b64decode(tensor._pickled({"flattened_tensor": torch.zeros(4)}))
        server.setattr(reductions, "rebuild_cuda_tensor", lambda *given: rebuilt.append(given))  # as SGLang does
        ForkingPickler.loads(pickled)
    assert rebuilt == [(*arguments[:6], "uuid-of-3", *arguments[7:])]


TENSORS = st.lists(st.tuples(st.integers(0, 12), st.sampled_from(DTYPES)), max_size=12)


@given(shapes=TENSORS, limit=st.integers(1, 60))
def test_buckets_keep_order_dtype_and_limit(shapes, limit):
    tensors = [(f"w{i}", torch.zeros(size, dtype=dtype)) for i, (size, dtype) in enumerate(shapes)]
    result = list(buckets(iter(tensors), limit))
    assert [pair for bucket in result for pair in bucket] == tensors
    for bucket in result:
        assert len({tensor.dtype for _, tensor in bucket}) == 1
        assert sum(tensor.nbytes for _, tensor in bucket) <= limit or len(bucket) == 1
    for bucket, following in itertools.pairwise(result):
        (_, first), size = following[0], sum(tensor.nbytes for _, tensor in bucket)
        assert first.dtype != bucket[0][1].dtype or size + first.nbytes > limit, "one bucket would have held both"


@given(st.lists(st.integers(), min_size=1))
def test_only_the_last_item_is_flagged(values):
    assert list(with_last_flag(iter(values))) == [(value, index == len(values) - 1) for index, value in enumerate(values)]


def test_a_server_may_be_used_with_each_transfer_in_turn(serve, engine_at, student):
    """Two runs, one after the other, may send weights to one server by different transfers."""
    server = serve()
    requests = requests_for(student, 2)
    for sync in SYNCS:
        train(student)
        engine = engine_at(server, sync=sync)
        assert ids(engine.generate(requests)) == expected(student, requests)
