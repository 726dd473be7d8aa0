"""Servers that the run starts itself: how, again after they died or hung, and what is said when they cannot be started."""

from __future__ import annotations

import itertools
import os
import signal
import sys

import pytest
import torch

from rosd_kit.components.rollouts import SGLangEngine
from rosd_kit.contracts import Site
from rosd_kit.errors import EngineError, RecipeError
from rosd_kit.sglang import replica
from rosd_kit.sglang.launch import launch_commands
from rosd_kit.sglang.options import Launch
from rosd_kit.sglang.server import free_port
from tests.sglang_fake.asking import requests_for
from tests.sglang_fake.launching import soon


@pytest.fixture
def launch(launchable, student, tmp_path):
    """Launch servers with an engine; `faults` are those of the fake."""
    made: list[SGLangEngine] = []

    def launch(*faults, told=None, options=None, **more) -> SGLangEngine:
        options = {"env": launchable.environment(*faults), "deadline": 20, **(options or {})}
        engine = SGLangEngine(SGLangEngine.Config(launch=options, check={"every": 0, "probe": False}, **more))
        made.append(engine)
        engine.start(student, Site(tmp_path, told))
        return engine

    yield launch
    for engine in made:
        engine.close()


def texts(engine, student, count=20):
    return [completion.token_ids for completion in engine.generate(requests_for(student, count))]


SAID = (7, 8, 9)


def test_one_server_for_each_entry_of_devices_with_the_arguments_of_the_recipe(launch, launchable, student):
    port = free_port("127.0.0.1")
    options = {
        "servers": 2,
        "devices": ["4,5", "6"],
        "args": {"mem_fraction_static": 0.5, "sleep_on_idle": False},
        "port": port,
    }
    engine = launch(options=options)
    assert texts(engine, student) == [SAID] * 20
    starts = sorted(launchable.starts(), key=lambda start: start.devices)
    assert [start.devices for start in starts] == ["4,5", "6"]
    for number, start in enumerate(starts):
        said = " ".join(start.words)
        assert f"--host 127.0.0.1 --port {port + number} " in said
        assert "--dtype float32" in said and "--mem-fraction-static 0.5" in said and "--sleep-on-idle" not in said
        assert "--skip-server-warmup --device cpu" in said, "a flag has no value"
    engine.close()
    assert soon(lambda: not launchable.left(), seconds=2)


def test_each_of_several_processes_launches_its_own_on_devices_and_ports_of_their_own(launchable, student, tmp_path):
    launch = Launch(servers=2, devices=["0", "1", "2,3", "4"], port=31000, env=launchable.environment())
    found = [
        [
            (command.environment["CUDA_VISIBLE_DEVICES"], command.port)
            for command in launch_commands(student, launch, folder=tmp_path, colocated=False, api_key=None, site=site)
        ]
        for site in (Site(rank=4, count=6, local=0, neighbours=2), Site(rank=5, count=6, local=1, neighbours=2))
    ]
    assert found == [[("0", 31000), ("1", 31001)], [("2,3", 31002), ("4", 31003)]]


def test_a_server_that_shares_the_device_of_its_process_sees_that_one(launchable, student, tmp_path, monkeypatch):
    launch = Launch(env=launchable.environment())
    monkeypatch.setattr(student, "device", torch.device("cuda", 1))

    def visible(**options):
        (command,) = launch_commands(student, launch, folder=tmp_path, api_key=None, **options)
        return command.environment.get("CUDA_VISIBLE_DEVICES")

    assert visible(colocated=False) is None and visible(colocated=True) == "1"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,7")
    assert visible(colocated=True) == "7"


@pytest.mark.parametrize("interpreter", ["bare", "missing"])
def test_an_interpreter_without_sglang_is_named_with_the_remedies(launch, tmp_path, interpreter):
    bare = tmp_path / "bare"
    bare.write_text(f'#!/bin/sh\nexec {sys.executable} -S "$@"\n')
    bare.chmod(0o755)
    with pytest.raises(EngineError, match=r"launch\.python: .*(bare|missing) has no SGLang\. Install.*rollout\.url="):
        launch(options={"python": str(tmp_path / interpreter), "env": {}})


@pytest.mark.parametrize(("servers", "devices"), [(2, ["0"]), (1, ["0", "1"])])
def test_devices_and_servers_must_match(launch, servers, devices):
    with pytest.raises(RecipeError, match=rf"launch\.devices: {len(devices)} entries for {servers} servers\. Give one each"):
        launch(options={"servers": servers, "devices": devices})


def test_a_server_that_ends_at_once_is_reported_with_the_end_of_its_log(launch, launchable, tmp_path):
    with pytest.raises(EngineError, match=r"ended before it was ready(.|\n)*CUDA out of memory") as error:
        launch("ends_0")
    assert str(tmp_path / "sglang.log") in str(error.value)
    assert "CUDA out of memory" in (tmp_path / "sglang.log").read_text()
    assert len(launchable.starts()) == 1


def test_a_server_that_is_not_ready_in_time_is_reported_and_stopped(launch, launchable, monkeypatch):
    async def healthy(self, *, timeout):
        return False

    monkeypatch.setattr(replica.Client, "healthy", healthy)
    with pytest.raises(EngineError, match=r"no healthy SGLang server at .* after 1 s\. Raise rollout\.launch\.deadline"):
        launch(options={"deadline": 1})
    assert soon(lambda: not launchable.left(), seconds=2)


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGSTOP])
def test_killed_or_hung_in_the_middle_of_a_batch_it_is_started_again(
    launch, launchable, student, short_grace, monkeypatch, sent
):
    monkeypatch.setattr(replica, "_HEALTH_TIMEOUT", 1.0)
    told = []
    engine = launch(timeout=1.0, concurrency=2, told=told.append)
    answers = engine.stream(requests_for(student, 30))
    found = [next(answers)]
    os.kill(launchable.starts()[0].pid, sent)
    found += answers
    assert sorted(place for place, _ in found) == list(range(30))
    assert {completion.token_ids for _, completion in found} == {SAID}
    numbers = engine.metrics()
    assert numbers["engine/relaunches"] == 1 and numbers["engine/resyncs"] == 1 and numbers["engine/retries"] > 0
    first, second = launchable.starts()
    assert soon(lambda: sorted(launchable.left()) == sorted([second.pid, second.child])), "nothing is left of the first one"
    assert first.words == second.words
    assert any("starting the SGLang server again (1 of 3)" in line for line in told)


def test_relaunches_are_counted_from_the_last_answer_on(launch, launchable, student):
    engine = launch(relaunches=1)
    for _ in range(3):
        os.kill(launchable.starts()[-1].pid, signal.SIGKILL)
        assert texts(engine, student, 2) == [SAID] * 2
    assert len(launchable.starts()) == 4


def test_a_server_that_dies_of_every_request_is_given_up(launch, launchable, student):
    engine = launch("dies_of_requests", relaunches=2)
    with pytest.raises(EngineError, match=r"failed 3 times in a row; the last time: unreachable(.|\n)*run --resume"):
        texts(engine, student, 1)
    assert len(launchable.starts()) == 3


def test_a_server_that_cannot_be_started_again_is_reported_with_the_end_of_its_log(launch, launchable, student):
    engine = launch("ends_1", "ends_2", relaunches=2)
    os.kill(launchable.starts()[0].pid, signal.SIGKILL)
    with pytest.raises(EngineError, match=r"ended before it was ready(.|\n)*CUDA out of memory(.|\n)*run --resume"):
        texts(engine, student, 1)
    assert len(launchable.starts()) == 3


def test_a_start_that_fails_once_is_tried_again(launch, launchable, student):
    engine = launch("ends_1")
    os.kill(launchable.starts()[0].pid, signal.SIGKILL)
    assert texts(engine, student, 1) == [SAID]
    assert len(launchable.starts()) == 3 and engine.metrics()["engine/relaunches"] == 2


def test_a_port_is_taken_that_no_other_program_is_given_by_chance(launch, launchable, student):
    engine = launch()
    (port,) = [int(port) for word, port in itertools.pairwise(launchable.starts()[0].words) if word == "--port"]
    assert 20000 <= port < 32768 and texts(engine, student, 1) == [SAID]


def test_an_address_of_another_machine_is_named(launch):
    with pytest.raises(EngineError, match=r"rollout\.launch\.host: cannot listen on '192\.0\.2\.1'"):
        launch(options={"host": "192.0.2.1"})


def test_the_key_protects_a_launched_server_and_is_in_no_log(launch, launchable, student, monkeypatch, tmp_path):
    monkeypatch.setenv("MY_KEY", "sesame-open")
    engine = launch(api_key_env="MY_KEY")
    assert texts(engine, student, 1) == [SAID]
    assert "sesame-open" in launchable.starts()[0].words
    log = (tmp_path / "sglang.log").read_text()
    assert "sglang.launch_server" in log and "sesame-open" not in log
