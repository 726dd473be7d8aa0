"""SIGKILL at 60 moments of a run, 36 of them inside a checkpoint or a transfer of weights: each goes on to the same bits.

Minutes long: pytest -m slow tests/faults/test_killed_anywhere.py
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from rosd_kit.model.student import Student
from rosd_kit.settings import ModelSettings
from tests.faults.harness import Harness, started
from tests.sglang_fake.backend import MicroBackend
from tests.sglang_fake.fake_server import FakeServer

IN_CHECKPOINTS, IN_TRANSFERS, ANY_TIME = 24, 12, 24

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def harness(tmp_path_factory) -> Iterator[Harness]:
    with started(tmp_path_factory.mktemp("killed-anywhere") / "runs") as found:
        yield found


@pytest.fixture(scope="module")
def with_a_server(harness) -> Iterator[Harness]:
    """Runs that sample from a server, to which weights travel by files."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    server = FakeServer(MicroBackend(Student.load(ModelSettings(path="micro", device="cpu"), keep_initial=True)))
    folder = harness.runs.parent / "transfers"
    changes = ("rollout=sglang", f"rollout.url=[{server.url}]", "rollout.sync=disk", f"rollout.sync_dir={folder}")
    yield Harness(harness.runs, harness.process, changes=changes)
    server.close()
    torch.set_num_threads(before)


def spread(places: int, among: float) -> list[float]:
    return [among * (2 * place + 1) / (2 * places) for place in range(places)]


def test_inside_checkpoints(harness):
    operations, _ = harness.whole("checkpoints-whole", within=str(harness.runs / "checkpoints-whole/checkpoints"))
    assert operations > IN_CHECKPOINTS
    for at in map(int, spread(IN_CHECKPOINTS, operations)):
        name = f"checkpoint-{at}"
        [killed] = harness.do(harness.begin(name, kill_at=max(1, at), within=str(harness.runs / name / "checkpoints")))
        assert killed["code"] == -9, killed["told"]
        harness.finish(name)
        harness.assert_same(name, "checkpoints-whole")


def test_inside_transfers_of_weights(with_a_server):
    folder = str(with_a_server.runs.parent / "transfers")
    operations, _ = with_a_server.whole("transfers-whole", within=folder)
    assert operations > IN_TRANSFERS
    for at in map(int, spread(IN_TRANSFERS, operations)):
        name = f"transfer-{at}"
        [killed] = with_a_server.do(with_a_server.begin(name, kill_at=max(1, at), within=folder))
        assert killed["code"] == -9, killed["told"]
        with_a_server.finish(name)
        with_a_server.assert_same(name, "transfers-whole")


def test_at_any_time(harness):
    _, seconds = harness.whole("any-time-whole")
    codes = []
    for number, after in enumerate(spread(ANY_TIME, 0.9 * seconds)):
        [done] = harness.do(harness.begin(f"time-{number}", kill_after=after))
        codes.append(done["code"])
        harness.finish(f"time-{number}")
        harness.assert_same(f"time-{number}", "any-time-whole")
    assert codes.count(-9) >= ANY_TIME * 2 // 3, "most of the runs ended before they could be killed"
