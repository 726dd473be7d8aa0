"""The reflector `external` with a real SGLang server of the embedded model; skipped without SGLang.

ROSD_KIT_SGLANG_PYTHON names the interpreter of an environment with SGLang; tests/sglang/setup.sh creates one.
"""

from __future__ import annotations

import importlib.resources
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from rosd_kit_external_reflector import External

import rosd_kit as rk
from rosd_kit.testing import fake_case, fake_generate, fake_problem

RECIPE = Path(__file__).parents[1] / "recipe.yaml"
KEY = "sk-a-key-of-this-test"
START_TIMEOUT = 280.0
FLAGS = (
    "--dtype float32 --device cpu --attention-backend torch_native --disable-overlap-schedule --skip-server-warmup "
    "--mem-fraction-static 0.1 --max-total-tokens 32768 --sleep-on-idle"
)
PROBLEM = fake_problem(question="Start at 17 . Add 8 . Add 4 . What is the result ?", answer="29")
WRONG = "{problem} Gold answer : {answer} . Correct solution : {demonstration} Wrong solution : {response} Find first error ."

pytestmark = pytest.mark.timeout(600)


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Start a server and yield its address."""
    python = os.environ.get("ROSD_KIT_SGLANG_PYTHON", "")
    if not Path(python).is_file():
        pytest.skip("ROSD_KIT_SGLANG_PYTHON names no interpreter with SGLang; create one with tests/sglang/setup.sh")
    model, port = importlib.resources.files("rosd_kit") / "model" / "micro" / "base", free_port()
    log = tmp_path_factory.mktemp("server") / "log"
    command = [python, "-m", "sglang.launch_server", "--model-path", str(model), "--port", str(port), *FLAGS.split()]
    with log.open("w") as out:
        process = subprocess.Popen(
            [*command, "--api-key", KEY, "--served-model-name", "micro"],
            env={**os.environ, "SGLANG_USE_CPU_ENGINE": "1", "OMP_NUM_THREADS": "1"},
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        _wait(f"http://127.0.0.1:{port}/health", process, log)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _wait(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()[-3000:]
        try:
            if httpx.get(url, timeout=5).status_code == 200:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.5)
    raise AssertionError(f"the server was not ready in {START_TIMEOUT:g} s: {log.read_text()[-3000:]}")


def test_a_real_server_finds_the_first_error(server, monkeypatch):
    monkeypatch.setenv("MICRO_KEY", KEY)
    options = {"url": server, "model": "micro", "key_variable": "MICRO_KEY", "max_new_tokens": 64, "wrong_template": WRONG}
    reflector = External(External.Config(**options, timeout=120.0, deadline=240.0))
    cases = [fake_case(problem=PROBLEM)] * 3
    reflections = reflector.reflect(cases, fake_generate())
    assert [reflection.status for reflection in reflections] == ["ok"] * 3
    assert {reflection.quote for reflection in reflections} == {"25 + 4 = 30"}
    assert reflections[0].idea and reflections[0].idea.startswith("25 + 4 = 29")


def test_a_real_server_refuses_a_wrong_key(server, monkeypatch):
    monkeypatch.setenv("MICRO_KEY", "sk-another")
    reflector = External(External.Config(url=server, model="micro", key_variable="MICRO_KEY"))
    with pytest.raises(rk.RunError, match="HTTP 401") as raised:
        reflector.reflect([fake_case(problem=PROBLEM)], fake_generate())
    assert "sk-another" not in str(raised.value)


def test_a_run_with_a_real_server(server, short_run):
    overrides = (f"reflector.url={server}", "reflector.model=micro", "reflector.timeout=240", "reflector.concurrency=4")
    run = short_run(RECIPE, *overrides, environment={"OPENAI_API_KEY": KEY})
    assert run.total("reflect/ok") > 0.8 * len(run.samples) > 0
    assert run.total("oracle/exact_start") > 0 and run.total("train/loss/distill") > 0
    assert not [f for f in run.folder.rglob("*") if f.is_file() and KEY.encode() in f.read_bytes()]
