"""Several processes with SGLang: each rank has its own servers, sends requests only to them and updates their weights."""

from __future__ import annotations

import json
from contextlib import ExitStack, closing

import pytest

from rosd_kit.model.student import Student
from rosd_kit.settings import ModelSettings
from tests.parallel.conftest import TINY, Finished
from tests.sglang_fake.backend import MicroBackend
from tests.sglang_fake.fake_server import FakeServer

pytestmark = pytest.mark.timeout(900)  # parallel.timeout_minutes ends a hang earlier

CASES = {
    "fsdp": ["parallel.mode=fsdp", "sampling.prefetch=1", "rollout.sync=disk", "rollout.check.every=1"],
    "ddp": ["parallel.mode=ddp", "rollout.sync=distributed", "rollout.check.every=1"],
}
SHORT = (*TINY, "sampling.max_new_tokens=24", "problems_per_step=3", "group_size=2", "rollout.timeout=60")
ALL_TRAIN = ("gate=all", "demonstration=reference", "reflector=oracle", "localizer=full")


@pytest.fixture(scope="module")
def three():
    student = Student.load(ModelSettings(path="micro", device="cpu"), keep_initial=True)
    with ExitStack() as stack:
        yield [stack.enter_context(closing(FakeServer(MicroBackend(student)))) for _ in range(3)]


@pytest.fixture(scope="module")
def servers(three):
    """The servers of the two-process runs."""
    return three[:2]


@pytest.fixture(scope="module")
def third(three):
    """The server of the one-process run."""
    return three[2]


def job(name, *changes):
    case = CASES.get(name, ["parallel.mode=ddp"])
    return {"recipe": "rosd", "changes": [*SHORT, *ALL_TRAIN, "rollout=sglang", *case, *changes], "name": name}


@pytest.fixture(scope="module")
def together(launch, servers, tmp_path_factory):
    out = tmp_path_factory.mktemp("together")
    urls = f"rollout.url={json.dumps([server.url for server in servers])}"
    launched = launch(out, *(job(name, urls) for name in CASES))
    assert launched.code == 0, launched.cause
    return out


def test_a_step_ends_on_all_ranks_when_they_have_its_groups_together(launch, tmp_path):
    """One server takes ten times as long: its rank need not have a share of the step's groups."""
    student = Student.load(ModelSettings(path="micro", device="cpu"), keep_initial=True)
    with ExitStack() as stack:
        servers = [stack.enter_context(closing(FakeServer(MicroBackend(student)))) for _ in range(2)]
        for server, pace in zip(servers, (0.005, 0.05), strict=True):
            server.pace = pace
        urls = f"rollout.url={json.dumps([server.url for server in servers])}"
        launched = launch(tmp_path, job("open", urls, "sampling.extra_problems=3", "steps=3"))
        assert launched.code == 0, launched.cause
        assert servers[1].payloads("/abort_request"), "the slow server was not stopped"
    steps = Finished(tmp_path / "open").numbers()
    assert [step["rollout/count"] for step in steps] == [6, 6, 6]
    assert sum(step["tokens/continued"] for step in steps) > 0


@pytest.mark.parametrize("name", CASES)
def test_the_run_equals_that_of_one_process_with_one_server(name, third, together, alone, tmp_path):
    alone(tmp_path, job(name, f"rollout.url={third.url}", "parallel.mode=single"))
    one, two = Finished(tmp_path / name), Finished(together / name)
    for before, after in zip(one.numbers(), two.numbers(), strict=True):
        assert after["train/weighted_tokens"] == before["train/weighted_tokens"] > 0
        assert after["train/loss"] == pytest.approx(before["train/loss"], rel=1e-4)
    compared = [line["engine/mismatch_greatest"] for line in two.numbers() if "engine/mismatch_greatest" in line]
    assert compared and max(compared) < 1e-3


def test_each_server_serves_one_rank_and_gets_every_weight_version_once(servers, together):
    labels = [[p["weight_version"] for p in server.payloads("/update_weights_from_disk")] for server in servers]
    assert [[label.split("-")[1] for label in own] for own in labels] == [["0", "1", "2"]] * 2
    names = [{label.split("-")[0] for label in own} for own in labels]
    assert all(len(own) == 1 for own in names) and names[0] != names[1]
    assert all(server.payloads("/generate") for server in servers)
    assert [server.crashes for server in servers] == [[], []]


def test_fewer_servers_than_processes_are_refused(servers, launch, tmp_path):
    launched = launch(tmp_path, job("ddp", f"rollout.url={servers[0].url}"))
    assert launched.code != 0
    assert "rollout.url: 1 of 2 ranks would have a server, and each needs its own. Give at least 2 addresses" in launched.output


def test_a_router_for_several_processes_is_refused(servers, launch, tmp_path):
    urls = f"rollout.url={json.dumps([server.url for server in servers])}"
    launched = launch(tmp_path, job("ddp", urls, f"rollout.router={servers[0].url}"))
    assert launched.code != 0 and "rollout.router: each of 2 ranks needs its own servers" in launched.output
