"""A run killed at any of 60 moments, 36 of them during a checkpoint or weight transfer, resumes to the same bits.

Takes minutes: pytest -m slow tests/faults/test_killed_anywhere.py
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
    with started(tmp_path_factory.mktemp("killed-anywhere") / "runs") as harness:
        yield harness


@pytest.fixture(scope="module")
def with_a_server(harness) -> Iterator[Harness]:
    """Yield a harness whose runs sample from a server, which gets its weights as files."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    server = FakeServer(MicroBackend(Student.load(ModelSettings(path="micro", device="cpu"), keep_initial=True)))
    folder = harness.runs.parent / "transfers"
    changes = ("rollout=sglang", f"rollout.url=[{server.url}]", "rollout.sync=disk", f"rollout.sync_dir={folder}")
    yield Harness(harness.runs, harness.process, changes=changes)
    server.close()
    torch.set_num_threads(threads)


def spread(count: int, total: float) -> list[float]:
    """Return this many moments, spread evenly over the total."""
    return [total * (2 * index + 1) / (2 * count) for index in range(count)]


def test_a_run_killed_during_a_checkpoint_resumes_to_the_same_bits(harness):
    operations, _ = harness.run_undisturbed(
        "checkpoints-undisturbed", within=str(harness.runs / "checkpoints-undisturbed/checkpoints")
    )
    assert operations > IN_CHECKPOINTS
    for at in map(int, spread(IN_CHECKPOINTS, operations)):
        name = f"checkpoint-{at}"
        [killed] = harness.do(harness.start(name, kill_at=max(1, at), within=str(harness.runs / name / "checkpoints")))
        assert killed["code"] == -9, killed["output"]
        harness.finish(name)
        harness.assert_same(name, "checkpoints-undisturbed")


def test_a_run_killed_during_a_weight_transfer_resumes_to_the_same_bits(with_a_server):
    folder = str(with_a_server.runs.parent / "transfers")
    operations, _ = with_a_server.run_undisturbed("transfers-undisturbed", within=folder)
    assert operations > IN_TRANSFERS
    for at in map(int, spread(IN_TRANSFERS, operations)):
        name = f"transfer-{at}"
        [killed] = with_a_server.do(with_a_server.start(name, kill_at=max(1, at), within=folder))
        assert killed["code"] == -9, killed["output"]
        with_a_server.finish(name)
        with_a_server.assert_same(name, "transfers-undisturbed")


def test_a_run_killed_at_any_time_resumes_to_the_same_bits(harness):
    _, seconds = harness.run_undisturbed("any-time-undisturbed")
    codes = []
    for number, after in enumerate(spread(ANY_TIME, 0.9 * seconds)):
        [result] = harness.do(harness.start(f"time-{number}", kill_after=after))
        codes.append(result["code"])
        harness.finish(f"time-{number}")
        harness.assert_same(f"time-{number}", "any-time-undisturbed")
    assert codes.count(-9) >= ANY_TIME * 2 // 3, "most of the runs ended before they could be killed"
