"""A real SGLang server on the CPU. `tests/sglang/setup.sh` makes the environment that it runs in; without it these skip."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from rosd_kit.components.rollouts import SGLangEngine, TransformersEngine
from rosd_kit.components.tasks import Micro
from rosd_kit.contracts import Site
from rosd_kit.model.micro.model import base_path
from rosd_kit.model.student import Student
from rosd_kit.settings import LoraSettings, ModelSettings
from rosd_kit.sglang.launch import launch_commands
from rosd_kit.sglang.options import Launch
from rosd_kit.sglang.server import ServerProcess
from rosd_kit.types import Completion, GenerateRequest, Sampling

ROOT = Path(__file__).parents[2]


def find_python() -> str:
    """Return the interpreter with SGLang, or skip."""
    found = Path(os.environ.get("ROSD_KIT_SGLANG_PYTHON", ROOT / ".sglang/bin/python"))
    if not found.exists():
        pytest.skip("no SGLang here; make its environment with: tests/sglang/setup.sh")
    return str(found)


@pytest.fixture(scope="session")
def python() -> str:
    return find_python()


def micro_student() -> Student:
    return Student.load(ModelSettings(path="micro", device="cpu"), keep_initial=True)


@pytest.fixture
def student() -> Student:
    return micro_student()


@pytest.fixture
def lora_student() -> Student:
    settings = ModelSettings(path="micro", device="cpu", lora=LoraSettings(rank=4, alpha=8))
    return Student.load(settings, keep_initial=True)


@pytest.fixture(scope="session")
def server(python, tmp_path_factory) -> Iterator[ServerProcess]:
    """Hold one server for all tests that only need some server; it is ready when an engine says so."""
    folder = tmp_path_factory.mktemp("server")
    anyone = Student.load(ModelSettings(path=str(base_path()), device="cpu"), keep_initial=False)
    (command,) = launch_commands(anyone, Launch(python=python), folder=folder, colocated=False, api_key=None)
    held = ServerProcess(command, folder / "sglang.log")
    held.start()
    yield held
    held.stop()


@pytest.fixture
def engine_at(server, tmp_path) -> Iterator[Callable[..., SGLangEngine]]:
    """Make engines that use the common server."""
    made: list[SGLangEngine] = []

    def make(student: Student, **options) -> SGLangEngine:
        engine = SGLangEngine(SGLangEngine.Config(url=server.command.url, patience=100, **options))
        engine.start(student, Site(tmp_path))
        made.append(engine)
        return engine

    yield make
    for engine in made:
        engine.close()


def requests_for(student: Student, count: int, *, each: int = 1, temperature: float = 1.0, most: int = 60):
    """Return requests for problems of the embedded laboratory, `each` of every problem."""
    sampling = Sampling(temperature=temperature, max_new_tokens=most)
    prompts = [student.prompt_ids(p.messages) for p in Micro().train_batch(step=0, count=count, seed=0)]
    return [GenerateRequest(prompt_ids=prompt, sampling=sampling, seed=seed) for prompt in prompts for seed in range(each)]


def greedy(student: Student, engine, count: int = 8, **options) -> list[Completion]:
    """Return what an engine says without chance."""
    found: list[Completion] = engine.generate(requests_for(student, count, temperature=0.0), **options)
    return found


def of_transformers(student: Student) -> TransformersEngine:
    engine = TransformersEngine()
    engine.start(student)
    return engine


def move(student: Student, amount: float = 0.02) -> None:
    """Change the trained weights as training would."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in student.state().values():
            scale = weight.abs().mean() if weight.any() else torch.tensor(1.0)
            weight.add_(torch.randn(weight.shape, generator=generator) * amount * scale)
