"""A launched server that dies or hangs during a batch is relaunched, and the batch is finished."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import psutil
import pytest

from rosd_kit.components.rollouts import SGLangEngine
from rosd_kit.contracts import Site
from rosd_kit.errors import EngineError
from tests.sglang.conftest import greedy, launch_options, requests_for, train, transformers_engine
from tests.sglang_fake.processes import wait_until


@pytest.fixture
def launched(python, student, tmp_path) -> Iterator[SGLangEngine]:
    """Launch a server with the engine; a short timeout notices a hang soon."""
    engine = SGLangEngine(SGLangEngine.Config(launch=launch_options(python), timeout=30, relaunches=1))
    engine.start(student, Site(tmp_path))
    yield engine
    engine.close()


def processes(engine) -> list[psutil.Process]:
    """Return the server's processes, which run below the watchdog."""
    (replica,) = engine._pool.replicas
    return psutil.Process(replica.process._process.pid).children(recursive=True)


def test_a_batch_survives_a_killed_and_a_hung_server(launched, student):
    train(student, 0.1)
    launched.sync(student, 1)
    requests = requests_for(student, 8, per_problem=4, temperature=0.0)
    expected = [c.token_ids for c in transformers_engine(student).generate(requests)]
    for sent in (signal.SIGKILL, signal.SIGSTOP):
        launched.metrics()
        victims = processes(launched)
        stream = launched.stream(requests)
        completions = dict([next(stream)])
        for victim in victims:
            os.kill(victim.pid, sent)
        for index, completion in stream:
            assert index not in completions, "answered twice"
            completions[index] = completion
        assert [completions[index].token_ids for index in range(len(requests))] == expected
        assert {completion.weight_version for completion in completions.values()} == {1}
        metrics = launched.metrics()
        assert metrics["engine/relaunches"] == 1 and metrics["engine/retries"] > 0, sent
        assert not any(victim.is_running() and victim.status() != "zombie" for victim in victims)


def test_the_error_about_a_failed_relaunch_shows_the_end_of_the_log(launched, student):
    (replica,) = launched._pool.replicas
    object.__setattr__(replica.process.command, "arguments", {"no_such_argument": 1})
    for victim in processes(launched):
        victim.kill()
    with pytest.raises(EngineError, match=r"exited before it was ready(.|\n)*no-such-argument(.|\n)*--resume"):
        greedy(student, launched)


def test_a_launched_server_stops_when_its_run_is_killed(python, tmp_path):
    """SIGKILL leaves no time to clean up; the watchdog notices that its run is gone."""
    script = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from rosd_kit.serving.server import ServerCommand, ServerProcess\n"
        f"python = {python!r}\n"
        "command = ServerCommand(python=python, program=[], host='127.0.0.1', port=1, arguments={}, environment={})\n"
        "object.__setattr__(command, 'argv', lambda: ['sleep', '300'])\n"
        f"server = ServerProcess(command, Path({str(tmp_path / 'log')!r}))\n"
        "server.start(); print('started', flush=True); time.sleep(300)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    assert process.stdout is not None and process.stdout.readline() == b"started\n"
    assert wait_until(lambda: any(child.name() == "sleep" for child in psutil.Process(process.pid).children(recursive=True)))
    below = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.wait()
    _, alive = psutil.wait_procs(below, timeout=60)
    assert not alive
