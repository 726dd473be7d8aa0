"""A launched server stops with the run, however the run ends."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from rosd_kit.serving.server import ServerCommand, ServerProcess, free_port
from tests.sglang_fake.processes import wait_until

RUN = """
import sys, time
from pathlib import Path
from rosd_kit.serving.server import ServerCommand, ServerProcess
port, environment, log = eval(sys.argv[1])
program = ("-m", "sglang.launch_server", "--model-path", "m")
command = ServerCommand(
    python=sys.executable, program=program, host="127.0.0.1", port=port, arguments={}, environment=environment
)
ServerProcess(command, Path(log)).start()
time.sleep(300)
"""


@pytest.fixture
def command(fake_sglang):
    def make(*faults, python=sys.executable) -> ServerCommand:
        environment = fake_sglang.environment(*faults)
        port = free_port("127.0.0.1")
        return ServerCommand(
            python=python,
            program=("-m", "sglang.launch_server", "--model-path", "m"),
            host="127.0.0.1",
            port=port,
            arguments={},
            environment=environment,
        )

    return make


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_signal_that_ends_the_run_ends_its_server(fake_sglang, tmp_path, sent):
    arguments = (free_port("127.0.0.1"), fake_sglang.environment(), str(tmp_path / "log"))
    run = subprocess.Popen([sys.executable, "-c", RUN, repr(arguments)], stderr=subprocess.DEVNULL)
    assert wait_until(fake_sglang.starts)
    assert len(fake_sglang.running()) == 2, "the server and its child"
    run.send_signal(sent)
    assert run.wait(60) != 0
    assert wait_until(lambda: not fake_sglang.running())


def test_stop_waits_until_the_server_and_its_children_are_gone(command, fake_sglang, tmp_path):
    server = ServerProcess(command(), tmp_path / "log")
    server.start()
    assert wait_until(fake_sglang.starts) and server.running and len(fake_sglang.running()) == 2
    pid = fake_sglang.starts()[0].pid
    server.stop()
    assert not server.running and pid not in fake_sglang.running()
    assert wait_until(lambda: not fake_sglang.running()), "its child was killed too"
    server.stop()


def test_a_server_that_ignores_sigterm_is_killed(command, fake_sglang, tmp_path, short_grace):
    server = ServerProcess(command("ignores_sigterm"), tmp_path / "log")
    server.start()
    assert wait_until(fake_sglang.starts)
    pid = fake_sglang.starts()[0].pid
    server.stop()
    assert pid not in fake_sglang.running()


def test_children_of_a_server_that_exits_by_itself_are_stopped(command, fake_sglang, tmp_path):
    server = ServerProcess(command("exits_0"), tmp_path / "log")
    server.start()
    assert wait_until(lambda: not server.running)
    assert wait_until(lambda: not fake_sglang.running()) and len(fake_sglang.starts()) == 1
    assert server.log_tail(1) == "RuntimeError: CUDA out of memory (not really)"


def test_a_second_start_stops_the_first_server_and_appends_to_its_log(command, fake_sglang, tmp_path):
    server = ServerProcess(command(), tmp_path / "folder" / "log")
    for count in (1, 2):
        server.start()
        assert wait_until(lambda: len(fake_sglang.starts()) == count)  # noqa: B023
    second = fake_sglang.starts()[1]
    assert wait_until(lambda: sorted(fake_sglang.running()) == sorted([second.pid, second.child]))
    assert (tmp_path / "folder/log").read_text().count("== ") == 2
    server.stop()


def test_sigterm_to_the_watchdog_stops_the_server(command, fake_sglang, tmp_path):
    server = ServerProcess(command(), tmp_path / "log")
    server.start()
    assert wait_until(fake_sglang.starts)
    server._process.send_signal(signal.SIGTERM)
    assert wait_until(lambda: not fake_sglang.running())
    server.stop()


def test_the_tail_of_an_unreadable_log_is_empty(command, tmp_path):
    assert ServerProcess(command(), tmp_path / "none").log_tail() == ""


def test_an_interpreter_that_cannot_be_run_is_reported_in_the_log(command, tmp_path):
    server = ServerProcess(command(python=str(tmp_path / "no-python")), tmp_path / "log")
    server.start()
    assert wait_until(lambda: not server.running)
    assert "FileNotFoundError" in server.log_tail() and "no-python" in server.log_tail()
