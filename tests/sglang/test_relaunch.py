"""A launched server that dies or hangs in the middle of a batch is started again, and the batch is finished."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import psutil
import pytest

from rosd_kit.components.rollouts import SGLangEngine
from rosd_kit.contracts import Site
from rosd_kit.errors import EngineError
from tests.sglang.conftest import greedy, move, of_transformers, requests_for


@pytest.fixture
def launched(python, student, tmp_path) -> Iterator[SGLangEngine]:
    """Launch a server with the engine; small pauses, so that a hang is noticed soon."""
    engine = SGLangEngine(SGLangEngine.Config(launch={"python": python}, timeout=15, relaunches=1))
    engine.start(student, Site(tmp_path))
    yield engine
    engine.close()


def processes(engine) -> list[psutil.Process]:
    """Return the server's own processes: what runs below the guard."""
    (replica,) = engine._pool.replicas
    return psutil.Process(replica.server._process.pid).children(recursive=True)


def test_killed_and_hung_in_the_middle_of_a_batch(launched, student):
    move(student, 0.1)
    launched.sync(student, 1)
    requests = requests_for(student, 8, each=4, temperature=0.0)
    expected = [c.token_ids for c in of_transformers(student).generate(requests)]
    for sent in (signal.SIGKILL, signal.SIGSTOP):
        launched.metrics()
        victims = processes(launched)
        answers = launched.stream(requests)
        found = dict([next(answers)])
        for victim in victims:
            os.kill(victim.pid, sent)
        for place, completion in answers:
            assert place not in found, "counted twice"
            found[place] = completion
        assert [found[place].token_ids for place in range(len(requests))] == expected
        assert {completion.weight_version for completion in found.values()} == {1}
        told = launched.metrics()
        assert told["engine/relaunches"] == 1 and told["engine/retries"] > 0, sent
        assert not any(victim.is_running() and victim.status() != "zombie" for victim in victims)


def test_a_server_that_cannot_be_started_again_stops_the_run_with_its_last_words(launched, student):
    (replica,) = launched._pool.replicas
    object.__setattr__(replica.server.command, "arguments", {"no_such_argument": 1})
    for victim in processes(launched):
        victim.kill()
    with pytest.raises(EngineError, match=r"ended before it was ready(.|\n)*no-such-argument(.|\n)*--resume"):
        greedy(student, launched)


def test_a_server_of_ours_ends_with_the_process(python, tmp_path):
    """SIGKILL leaves no time to tidy up; the guard sees that its run is gone."""
    script = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from rosd_kit.sglang.server import ServerCommand, ServerProcess\n"
        f"command = ServerCommand(python={python!r}, model='nowhere', host='127.0.0.1', port=1, arguments={{}}, environment={{}})\n"
        "object.__setattr__(command, 'words', lambda: ['sleep', '300'])\n"
        f"server = ServerProcess(command, Path({str(tmp_path / 'log')!r}))\n"
        "server.start(); print('started', flush=True); time.sleep(300)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    assert process.stdout is not None and process.stdout.readline() == b"started\n"
    time.sleep(0.5)
    below = psutil.Process(process.pid).children(recursive=True)
    assert any("sleep" in " ".join(child.cmdline()) for child in below)
    process.kill()
    process.wait()
    _, alive = psutil.wait_procs(below, timeout=15)
    assert not alive
