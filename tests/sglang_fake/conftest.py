"""Engines of a real student in front of fake servers; pauses between tries are short."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from rosd_kit.components.rollouts import SGLangEngine
from rosd_kit.contracts import Site
from rosd_kit.model.student import Student
from rosd_kit.settings import ModelSettings
from rosd_kit.sglang import pool, replica, server
from tests.sglang_fake.brains import MicroBrain
from tests.sglang_fake.fake import FakeServer
from tests.sglang_fake.launching import Launchable, soon


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch) -> None:
    monkeypatch.setattr(pool, "_RETRY_DELAY", 0.002)
    monkeypatch.setattr(pool, "_MAX_RETRY_DELAY", 0.01)
    monkeypatch.setattr(replica, "_HEALTH_TIMEOUT", 5.0)
    monkeypatch.setattr(replica, "_POLL_INTERVAL", 0.05)


@pytest.fixture(scope="session")
def untouched() -> Student:
    return Student.load(ModelSettings(path="micro", device="cpu"), keep_initial=True)


@pytest.fixture(scope="session")
def trained(untouched) -> Student:
    mine = copy.copy(untouched)
    mine.model = copy.deepcopy(untouched.model)
    return mine


@pytest.fixture
def student(trained, untouched) -> Student:
    """Give each test a student to train, at its beginning."""
    trained.load_state(untouched.state())
    return trained


@pytest.fixture(scope="session")
def brains() -> list[MicroBrain]:
    return []


@pytest.fixture
def serve(untouched, brains) -> Iterator[Callable[..., FakeServer]]:
    """Start fake servers; none of them may have been asked what would have killed a real one."""
    made: list[FakeServer] = []

    def serve(*, brain: MicroBrain | None = None, **options) -> FakeServer:
        if len(made) == len(brains):
            brains.append(MicroBrain(untouched))
        brains[len(made)].begin()
        made.append(FakeServer(brain or brains[len(made)], **options))
        return made[-1]

    yield serve
    for one in made:
        one.close()
    assert [one.crashes for one in made] == [[]] * len(made)


@pytest.fixture
def engine_at(student, tmp_path) -> Iterator[Callable[..., SGLangEngine]]:
    """Start engines at servers. Nothing is compared unless a test wants it."""
    made: list[SGLangEngine] = []

    def make(*servers: FakeServer, **options) -> SGLangEngine:
        options = {"patience": 0.5, "timeout": 5.0, "check": {"every": 0, "probe": False}, **options}
        options = {"url": [server.url for server in servers], **options}
        engine = SGLangEngine(SGLangEngine.Config(**options))
        engine.start(student, Site(tmp_path))
        made.append(engine)
        return engine

    yield make
    for engine in made:
        engine.close()


@pytest.fixture
def launchable(tmp_path) -> Iterator[Launchable]:
    """Let a test launch servers; it must leave none behind."""
    found = Launchable(tmp_path / "starts")
    yield found
    assert soon(lambda: not found.left())


@pytest.fixture
def short_grace(monkeypatch, tmp_path) -> None:
    """Let the guard kill a server that does not end by itself sooner."""
    text = Path(server._WATCHDOG).read_text()
    assert "GRACE = 10.0" in text
    (tmp_path / "guard.py").write_text(text.replace("GRACE = 10.0", "GRACE = 0.3"))
    monkeypatch.setattr(server, "_WATCHDOG", tmp_path / "guard.py")
