"""Engines of a real student that use fake servers, with short delays between retries."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from rosd_kit.components.rollouts import SGLangEngine
from rosd_kit.contracts import Site
from rosd_kit.model.student import Student
from rosd_kit.serving import pool, replica
from rosd_kit.serving import server as server_module
from rosd_kit.settings import ModelSettings
from tests.sglang_fake.backend import MicroBackend
from tests.sglang_fake.fake_server import FakeServer
from tests.sglang_fake.processes import FakeSGLang, wait_until


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def short_delays(monkeypatch) -> None:
    monkeypatch.setattr(pool, "_RETRY_DELAY", 0.002)
    monkeypatch.setattr(pool, "_MAX_RETRY_DELAY", 0.01)
    monkeypatch.setattr(replica, "_HEALTH_TIMEOUT", 30.0)
    monkeypatch.setattr(replica, "_POLL_INTERVAL", 0.05)


@pytest.fixture(scope="session")
def untouched() -> Student:
    return Student.load(ModelSettings(path="micro", device="cpu"), keep_initial=True)


@pytest.fixture(scope="session")
def trained(untouched) -> Student:
    student = copy.copy(untouched)
    student.model = copy.deepcopy(untouched.model)
    return student


@pytest.fixture
def student(trained, untouched) -> Student:
    """Give each test a student with its initial weights, which it may train."""
    trained.load_state(untouched.state())
    return trained


@pytest.fixture(scope="session")
def backends() -> list[MicroBackend]:
    return []


@pytest.fixture
def serve(untouched, backends) -> Iterator[Callable[..., FakeServer]]:
    """Start fake servers, and check at the end that no request would have crashed a real one."""
    servers: list[FakeServer] = []

    def serve(*, backend: MicroBackend | None = None, **options) -> FakeServer:
        if len(servers) == len(backends):
            backends.append(MicroBackend(untouched))
        backends[len(servers)].reset_for_test()
        servers.append(FakeServer(backend or backends[len(servers)], **options))
        return servers[-1]

    yield serve
    for server in servers:
        server.close()
    assert [server.crashes for server in servers] == [[]] * len(servers)


@pytest.fixture
def engine_at(student, tmp_path) -> Iterator[Callable[..., SGLangEngine]]:
    """Start engines at servers. Log-probs are compared only where a test asks for it."""
    engines: list[SGLangEngine] = []

    def start(*servers: FakeServer, **options) -> SGLangEngine:
        options = {"patience": 60.0, "timeout": 60.0, "check": {"every": 0, "probe": False}, **options}
        options = {"url": [server.url for server in servers], **options}
        engine = SGLangEngine(SGLangEngine.Config(**options))
        engine.start(student, Site(tmp_path))
        engines.append(engine)
        return engine

    yield start
    for engine in engines:
        engine.close()


@pytest.fixture
def fake_sglang(tmp_path) -> Iterator[FakeSGLang]:
    """Let a test launch servers, and check that it leaves none running."""
    fake = FakeSGLang(tmp_path / "starts")
    yield fake
    assert wait_until(lambda: not fake.running())


@pytest.fixture
def short_grace(monkeypatch, tmp_path) -> None:
    """Shorten the time that the watchdog gives a server to exit by itself."""
    text = Path(server_module._WATCHDOG).read_text()
    assert "GRACE = 10.0" in text
    (tmp_path / "watchdog.py").write_text(text.replace("GRACE = 10.0", "GRACE = 0.3"))
    monkeypatch.setattr(server_module, "_WATCHDOG", tmp_path / "watchdog.py")
