"""A run killed at any of 78 moments, 42 of them during a checkpoint, weight transfer or export, resumes to the same bits.

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

IN_CHECKPOINTS, IN_TRANSFERS, ANY_TIME, IN_EXPORTS, OF_A_KIND = 24, 12, 24, 6, 4
ROW = '{{"question": "Start at {} . Add {} . What is the result ?", "answer": "{}"}}\n'
STREAM = (
    'task.prompt="{question}"',
    'task.answer="{answer}"',
    "verifier=exact",
    "objective=[policy_gradient]",
    "demonstration=none",
    "reflector=none",
    "context=none",
    "task.shuffle_buffer=4",
)

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


def usual_seconds(harness, name: str) -> float:
    """Run to the end twice, so that `name` is there to compare with; return the seconds of the quicker run.

    What a process does for the first time takes longer, and a kill that comes after the end kills nothing.
    """
    return min(harness.run_undisturbed(each)[1] for each in (name, f"{name}-again"))


def kill_after(harness, name: str, seconds: float) -> str:
    """Start a run and kill it after so many seconds, or, if it has ended by then, another one sooner; return the run's name."""
    for attempt in range(12):
        [result] = harness.do(harness.start(f"{name}-{attempt}", kill_after=seconds * 0.7**attempt))
        if result["code"] == -9:
            return f"{name}-{attempt}"
        assert result["code"] == 0, result["output"]
    raise AssertionError(f"{name} ended every time before it could be killed")


def test_a_run_killed_at_any_time_resumes_to_the_same_bits(harness):
    seconds = usual_seconds(harness, "any-time-undisturbed")
    for number, after in enumerate(spread(ANY_TIME, 0.9 * seconds)):
        name = kill_after(harness, f"time-{number}", after)
        harness.finish(name)
        harness.assert_same(name, "any-time-undisturbed")


def test_a_run_killed_during_its_export_exports_the_same_bits(harness):
    operations, _ = harness.run_undisturbed("export-undisturbed", within=str(harness.runs / "export-undisturbed"))
    for at in range(operations - IN_EXPORTS - 2, operations - 2):  # the last operations close the run
        name = f"export-{at}"
        [killed] = harness.do(harness.start(name, kill_at=at, within=str(harness.runs / name)))
        assert killed["code"] == -9, killed["output"]
        harness.finish(name)
        harness.assert_same(name, "export-undisturbed")


@pytest.mark.parametrize("kind", ["policy_gradient", "prefetch", "stream"])
def test_runs_of_other_kinds_killed_at_any_time_resume_to_the_same_bits(harness, tmp_path, kind):
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(ROW.format(one, two, one + two) for one in range(1, 9) for two in range(1, 9)))
    changes = {
        "policy_gradient": ("objective=[policy_gradient]",),
        "prefetch": ("sampling.prefetch=1",),
        "stream": ("task=dataset", f"task.path={rows}", "task.streaming=true", *STREAM),
    }[kind]
    of_kind = Harness(harness.runs, harness.process, changes=changes)
    seconds = usual_seconds(of_kind, f"{kind}-undisturbed")
    for number, after in enumerate(spread(OF_A_KIND, 0.9 * seconds)):
        name = kill_after(of_kind, f"{kind}-{number}", after)
        of_kind.finish(name)
        of_kind.assert_same(name, f"{kind}-undisturbed")
