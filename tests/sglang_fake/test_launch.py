"""Servers that the run launches: their commands, relaunches after a crash or hang, and errors when they cannot start."""

from __future__ import annotations

import itertools
import os
import signal
import socket
import sys
from contextlib import suppress

import pytest
import torch

from rosd_kit.components.rollouts import SGLangEngine
from rosd_kit.contracts import Site
from rosd_kit.errors import EngineError, RecipeError
from rosd_kit.serving import replica
from rosd_kit.serving.server import free_port, server_environment
from rosd_kit.sglang.launch import launch_commands
from rosd_kit.sglang.options import Launch
from tests.sglang_fake.helpers import requests_for
from tests.sglang_fake.processes import wait_until


@pytest.fixture
def launch(fake_sglang, student, tmp_path):
    """Launch servers with an engine; `faults` are those of the fake."""
    engines: list[SGLangEngine] = []

    def launch(*faults, listener=None, options=None, **more) -> SGLangEngine:
        options = {"env": fake_sglang.environment(*faults), "deadline": 120, **(options or {})}
        engine = SGLangEngine(SGLangEngine.Config(launch=options, check={"every": 0, "probe": False}, **more))
        engines.append(engine)
        engine.start(student, Site(tmp_path, listener))
        return engine

    yield launch
    for engine in engines:
        engine.close()


def two_free_ports() -> int:
    """Return a port that, like the next one, nothing listens on."""
    while True:
        port = free_port("127.0.0.1")
        with socket.socket() as following, suppress(OSError):
            following.bind(("127.0.0.1", port + 1))
            return port


def sampled_ids(engine, student, count=20):
    return [completion.token_ids for completion in engine.generate(requests_for(student, count))]


CONSTANT_IDS = (7, 8, 9)


def test_each_entry_of_devices_gets_a_server_with_the_arguments_of_the_recipe(launch, fake_sglang, student):
    port = two_free_ports()
    options = {
        "servers": 2,
        "devices": ["4,5", "6"],
        "args": {"mem_fraction_static": 0.5, "sleep_on_idle": False},
        "port": port,
    }
    engine = launch(options=options)
    assert sampled_ids(engine, student) == [CONSTANT_IDS] * 20
    starts = sorted(fake_sglang.starts(), key=lambda start: start.devices)
    assert [start.devices for start in starts] == ["4,5", "6"]
    for number, start in enumerate(starts):
        command_line = " ".join(start.arguments)
        assert f"--host 127.0.0.1 --port {port + number} " in command_line
        assert "--dtype float32" in command_line and "--mem-fraction-static 0.5" in command_line
        assert "--sleep-on-idle" not in command_line
        assert "--skip-server-warmup --device cpu" in command_line, "a flag has no value"
    engine.close()
    assert wait_until(lambda: not fake_sglang.running())


def test_each_rank_launches_servers_on_its_own_devices_and_ports(fake_sglang, student, tmp_path):
    launch = Launch(servers=2, devices=["0", "1", "2,3", "4"], port=31000, env=fake_sglang.environment())
    launched = [
        [
            (command.environment["CUDA_VISIBLE_DEVICES"], command.port)
            for command in launch_commands(student, launch, folder=tmp_path, colocated=False, api_key=None, site=site)
        ]
        for site in (Site(rank=4, count=6, local=0, neighbours=2), Site(rank=5, count=6, local=1, neighbours=2))
    ]
    assert launched == [[("0", 31000), ("1", 31001)], [("2,3", 31002), ("4", 31003)]]


def test_servers_with_initial_weights_come_after_all_others_of_a_machine(fake_sglang, student, tmp_path):
    devices = ["0", "1", "2", "3"]
    launch = Launch(initial_servers=1, devices=devices, port=31000, env=fake_sglang.environment())
    options = {"folder": tmp_path, "colocated": False, "api_key": None}
    for local in (0, 1):
        site = Site(rank=local, count=2, local=local, neighbours=2)
        for which, place in (("live", local), ("initial", 2 + local)):
            (command,) = launch_commands(student, launch, site=site, which=which, **options)
            assert (command.environment["CUDA_VISIBLE_DEVICES"], command.port) == (devices[place], 31000 + place)
            assert "enable_weights_cpu_backup" not in command.arguments
    with pytest.raises(RecipeError, match=r"rollout.launch.devices: 4 entries for 2 servers"):
        launch_commands(student, launch, **options)


def test_only_a_colocated_server_with_initial_weights_keeps_a_copy_of_them_on_the_cpu(fake_sglang, student, tmp_path):
    launch = Launch(initial_servers=1, env=fake_sglang.environment())
    for which in ("live", "initial"):
        (command,) = launch_commands(student, launch, folder=tmp_path, colocated=True, api_key=None, which=which)
        assert command.arguments["enable_memory_saver"] is True
        assert ("enable_weights_cpu_backup" in command.arguments) == (which == "initial")


@pytest.mark.parametrize("colocated", [False, True])
def test_a_launched_server_with_initial_weights_works_sleeps_and_wakes_with_the_others(
    launch, fake_sglang, student, tmp_path, colocated
):
    engine = launch(options={"initial_servers": 1}, colocated=colocated)
    requests = requests_for(student, 3)
    live, initial = fake_sglang.starts()
    assert ("--enable-weights-cpu-backup" in initial.arguments) == colocated and live.arguments != initial.arguments
    for version in (1, 2):
        for which, expected_version in (("live", version - 1), ("initial", 0)):
            completions = engine.generate(requests, weights=which)
            assert {(c.token_ids, c.weight_version) for c in completions} == {(CONSTANT_IDS, expected_version)}
        engine.rest()
        engine.sync(student, version)  # a fake server ends if it generates while its memory is released
    assert engine.metrics().get("engine/relaunches", 0) == 0 and len(fake_sglang.starts()) == 2
    assert {log.name for log in tmp_path.glob("*.log")} == {"sglang.log", "sglang-initial.log"}


def test_a_colocated_server_sees_the_device_of_its_rank(fake_sglang, student, tmp_path, monkeypatch):
    launch = Launch(env=fake_sglang.environment())
    monkeypatch.setattr(student, "device", torch.device("cuda", 1))

    def visible_devices(**options):
        (command,) = launch_commands(student, launch, folder=tmp_path, api_key=None, **options)
        return command.environment.get("CUDA_VISIBLE_DEVICES")

    assert visible_devices(colocated=False) is None and visible_devices(colocated=True) == "1"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,7")
    assert visible_devices(colocated=True) == "7"


def test_a_server_does_not_see_what_torchrun_tells_the_ranks(monkeypatch):
    """With TORCHELASTIC_USE_AGENT_STORE a server waits for a store that nobody opens."""
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "GROUP_RANK", "ROLE_WORLD_SIZE"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    monkeypatch.setenv("TORCHELASTIC_USE_AGENT_STORE", "True")
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.setenv("HF_HOME", "/models")
    environment = server_environment({"SGLANG_USE_CPU_ENGINE": "1", "MASTER_PORT": "5"})
    assert environment["HF_HOME"] == "/models" and environment["OMP_NUM_THREADS"] == "7"  # the user's
    assert environment["MASTER_PORT"] == "5" and environment["SGLANG_USE_CPU_ENGINE"] == "1"
    launcher = ("RANK", "LOCAL", "WORLD", "MASTER_ADDR", "GROUP", "ROLE", "TORCHELASTIC", "ACCELERATE")
    assert not [name for name in environment if name.startswith(launcher)]
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    assert "OMP_NUM_THREADS" not in server_environment({})  # torchrun's
    assert server_environment({"OMP_NUM_THREADS": "3"})["OMP_NUM_THREADS"] == "3"


def test_the_environment_names_the_interpreter_where_the_recipe_does_not(fake_sglang, student, tmp_path, monkeypatch):
    python = tmp_path / "python"
    python.symlink_to(sys.executable)
    monkeypatch.setenv("ROSD_KIT_SGLANG_PYTHON", str(python))

    def interpreter(**options):
        launch = Launch(env=fake_sglang.environment(), **options)
        return launch_commands(student, launch, folder=tmp_path, colocated=False, api_key=None)[0].python

    assert interpreter() == str(python)
    assert interpreter(python=sys.executable) == sys.executable
    monkeypatch.delenv("ROSD_KIT_SGLANG_PYTHON")
    assert interpreter() == sys.executable


@pytest.mark.parametrize("interpreter", ["bare", "missing"])
def test_the_error_about_an_interpreter_without_sglang_names_the_remedies(launch, tmp_path, interpreter):
    bare = tmp_path / "bare"
    bare.write_text(f'#!/bin/sh\nexec {sys.executable} -S "$@"\n')
    bare.chmod(0o755)
    with pytest.raises(EngineError, match=r"launch\.python: .*(bare|missing) has no SGLang\. Install.*rollout\.url="):
        launch(options={"python": str(tmp_path / interpreter), "env": {}})


@pytest.mark.parametrize(("servers", "devices"), [(2, ["0"]), (1, ["0", "1"])])
def test_the_numbers_of_devices_and_servers_must_match(launch, servers, devices):
    with pytest.raises(
        RecipeError,
        match=rf"launch\.devices: {len(devices)} entries for {servers} servers \(servers={servers} and .*Give one each",
    ):
        launch(options={"servers": servers, "devices": devices})


def test_the_error_about_a_server_that_exits_at_once_shows_the_end_of_its_log(launch, fake_sglang, tmp_path):
    with pytest.raises(EngineError, match=r"exited before it was ready(.|\n)*CUDA out of memory") as error:
        launch("exits_0")
    assert str(tmp_path / "sglang.log") in str(error.value)
    assert "CUDA out of memory" in (tmp_path / "sglang.log").read_text()
    assert len(fake_sglang.starts()) == 1


def test_a_server_that_is_not_ready_in_time_is_stopped(launch, fake_sglang, monkeypatch):
    async def is_healthy(self, *, timeout):
        return False

    monkeypatch.setattr(replica.Client, "is_healthy", is_healthy)
    with pytest.raises(EngineError, match=r"no healthy SGLang server at .* after 1 s\. Raise rollout\.launch\.deadline"):
        launch(options={"deadline": 1})
    assert wait_until(lambda: not fake_sglang.running())


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGSTOP])
def test_a_server_killed_or_hung_during_a_batch_is_relaunched(launch, fake_sglang, student, short_grace, monkeypatch, sent):
    seconds = 2.0 if sent == signal.SIGSTOP else 60.0
    monkeypatch.setattr(replica, "_HEALTH_TIMEOUT", seconds)
    progress = []
    engine = launch(timeout=seconds, concurrency=2, listener=progress.append)
    stream = engine.stream(requests_for(student, 30))
    streamed = [next(stream)]
    os.kill(fake_sglang.starts()[0].pid, sent)
    streamed += stream
    assert sorted(index for index, _ in streamed) == list(range(30))
    assert {completion.token_ids for _, completion in streamed} == {CONSTANT_IDS}
    metrics = engine.metrics()
    assert metrics["engine/relaunches"] == 1 and metrics["engine/resyncs"] == 1 and metrics["engine/retries"] > 0
    first, second = fake_sglang.starts()
    assert wait_until(lambda: sorted(fake_sglang.running()) == sorted([second.pid, second.child])), "only the second one runs"
    assert first.arguments == second.arguments
    assert any("restarting the SGLang server (1 of 3)" in line for line in progress)


def test_a_response_resets_the_relaunch_counter(launch, fake_sglang, student):
    engine = launch(relaunches=1)
    for _ in range(3):
        os.kill(fake_sglang.starts()[-1].pid, signal.SIGKILL)
        assert sampled_ids(engine, student, 2) == [CONSTANT_IDS] * 2
    assert len(fake_sglang.starts()) == 4


def test_a_server_that_dies_on_every_request_is_given_up(launch, fake_sglang, student):
    engine = launch("dies_on_request", relaunches=2)
    with pytest.raises(EngineError, match=r"failed 3 times in a row; last fault: unreachable(.|\n)*run --resume"):
        sampled_ids(engine, student, 1)
    assert len(fake_sglang.starts()) == 3


def test_the_error_about_a_failed_relaunch_shows_the_end_of_the_log(launch, fake_sglang, student):
    engine = launch("exits_1", "exits_2", relaunches=2)
    os.kill(fake_sglang.starts()[0].pid, signal.SIGKILL)
    with pytest.raises(EngineError, match=r"exited before it was ready(.|\n)*CUDA out of memory(.|\n)*run --resume"):
        sampled_ids(engine, student, 1)
    assert len(fake_sglang.starts()) == 3


def test_a_relaunch_that_fails_is_retried(launch, fake_sglang, student):
    engine = launch("exits_1")
    os.kill(fake_sglang.starts()[0].pid, signal.SIGKILL)
    assert sampled_ids(engine, student, 1) == [CONSTANT_IDS]
    assert len(fake_sglang.starts()) == 3 and engine.metrics()["engine/relaunches"] == 2


def test_the_port_lies_outside_the_range_that_the_system_hands_out(launch, fake_sglang, student):
    engine = launch()
    (port,) = [int(port) for word, port in itertools.pairwise(fake_sglang.starts()[0].arguments) if word == "--port"]
    assert 20000 <= port < 32768 and sampled_ids(engine, student, 1) == [CONSTANT_IDS]


def test_an_address_of_another_machine_is_an_error(launch):
    with pytest.raises(EngineError, match=r"rollout\.launch\.host: cannot listen on '192\.0\.2\.1'"):
        launch(options={"host": "192.0.2.1"})


def test_the_api_key_protects_a_launched_server_and_is_not_logged(launch, fake_sglang, student, monkeypatch, tmp_path):
    monkeypatch.setenv("MY_KEY", "sesame-open")
    engine = launch(api_key_env="MY_KEY")
    assert sampled_ids(engine, student, 1) == [CONSTANT_IDS]
    assert "sesame-open" in fake_sglang.starts()[0].arguments
    log = (tmp_path / "sglang.log").read_text()
    assert "sglang.launch_server" in log and "sesame-open" not in log
