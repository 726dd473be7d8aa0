"""A launched server ends with the run, however the run ends."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import pytest

from rosd_kit.sglang.server import ServerCommand, ServerProcess, free_port
from tests.sglang_fake.launching import soon

RUN = """
import sys, time
from pathlib import Path
from rosd_kit.sglang.server import ServerCommand, ServerProcess
port, environment, log = eval(sys.argv[1])
command = ServerCommand(python=sys.executable, model="m", host="127.0.0.1", port=port, arguments={}, environment=environment)
ServerProcess(command, Path(log)).start()
time.sleep(300)
"""


@pytest.fixture
def command(launchable):
    def make(*faults, python=sys.executable) -> ServerCommand:
        environment = launchable.environment(*faults)
        port = free_port("127.0.0.1")
        return ServerCommand(python=python, model="m", host="127.0.0.1", port=port, arguments={}, environment=environment)

    return make


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_when_the_run_is_ended_by_a_signal_its_server_ends_too(launchable, tmp_path, sent):
    told = (free_port("127.0.0.1"), launchable.environment(), str(tmp_path / "log"))
    run = subprocess.Popen([sys.executable, "-c", RUN, repr(told)], stderr=subprocess.DEVNULL)
    assert soon(launchable.starts)
    assert len(launchable.left()) == 2, "the server and its child"
    run.send_signal(sent)
    assert run.wait(10) != 0
    assert soon(lambda: not launchable.left(), seconds=5)


def test_stop_waits_until_all_are_gone(command, launchable, tmp_path):
    server = ServerProcess(command(), tmp_path / "log")
    server.start()
    assert soon(launchable.starts) and server.alive and len(launchable.left()) == 2
    pid = launchable.starts()[0].pid
    server.stop()
    assert not server.alive and pid not in launchable.left()
    assert soon(lambda: not launchable.left(), seconds=2), "its children were killed with it"
    server.stop()


def test_one_that_ignores_the_request_to_end_is_killed(command, launchable, tmp_path, short_grace):
    server = ServerProcess(command("ignores_sigterm"), tmp_path / "log")
    server.start()
    assert soon(launchable.starts)
    time.sleep(0.2)
    pid = launchable.starts()[0].pid
    server.stop()
    assert pid not in launchable.left()


def test_what_a_server_leaves_behind_when_it_ends_by_itself_is_stopped(command, launchable, tmp_path):
    server = ServerProcess(command("ends_0"), tmp_path / "log")
    server.start()
    assert soon(lambda: not server.alive)
    assert soon(lambda: not launchable.left(), seconds=2) and len(launchable.starts()) == 1
    assert server.log_tail(1) == "RuntimeError: CUDA out of memory (not really)"


def test_a_second_start_ends_the_first_and_goes_on_in_its_log(command, launchable, tmp_path):
    server = ServerProcess(command(), tmp_path / "folder" / "log")
    for count in (1, 2):
        server.start()
        assert soon(lambda: len(launchable.starts()) == count, seconds=15)  # noqa: B023
    second = launchable.starts()[1]
    assert soon(lambda: sorted(launchable.left()) == sorted([second.pid, second.child]), seconds=2)
    assert (tmp_path / "folder/log").read_text().count("== ") == 2
    server.stop()


def test_a_signal_to_the_guard_stops_the_server_too(command, launchable, tmp_path):
    server = ServerProcess(command(), tmp_path / "log")
    server.start()
    assert soon(launchable.starts)
    server._process.send_signal(signal.SIGTERM)
    assert soon(lambda: not launchable.left(), seconds=5)
    server.stop()


def test_a_log_that_cannot_be_read_has_no_last_words(command, tmp_path):
    assert ServerProcess(command(), tmp_path / "none").log_tail() == ""


def test_an_interpreter_that_cannot_be_run_ends_at_once_and_says_so(command, tmp_path):
    server = ServerProcess(command(python=str(tmp_path / "no-python")), tmp_path / "log")
    server.start()
    assert soon(lambda: not server.alive)
    assert "FileNotFoundError" in server.log_tail() and "no-python" in server.log_tail()
