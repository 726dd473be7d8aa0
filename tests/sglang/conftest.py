"""A real SGLang server on the CPU, in the environment that `tests/sglang/setup.sh` creates. Without it, these tests skip."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from rosd_kit.components.rollouts import SGLangEngine, TransformersEngine
from rosd_kit.components.tasks import Micro
from rosd_kit.contracts import RolloutEngine, Site
from rosd_kit.model.micro.model import base_path
from rosd_kit.model.student import Student
from rosd_kit.serving.server import ServerProcess
from rosd_kit.settings import LoraSettings, ModelSettings
from rosd_kit.sglang.launch import launch_commands
from rosd_kit.sglang.options import Launch
from rosd_kit.types import Completion, GenerateRequest, Sampling

ROOT = Path(__file__).parents[2]
#: Servers with one thread each: the threads of one wait for each other, which takes long where cores are shared.
ONE_THREAD = "rollout.launch.env={OMP_NUM_THREADS: '1'}"


def find_python() -> str:
    """Return the interpreter with SGLang, or skip."""
    path = Path(os.environ.get("ROSD_KIT_SGLANG_PYTHON", ROOT / ".sglang/bin/python"))
    if not path.exists():
        pytest.skip("no SGLang environment; create it with: tests/sglang/setup.sh")
    return str(path)


@pytest.fixture(scope="session")
def python() -> str:
    return find_python()


def launch_options(python: str, **more: Any) -> dict[str, Any]:
    """Return how tests launch servers: with one thread each, and with these options."""
    return {"python": python, "env": {"OMP_NUM_THREADS": "1"}, **more}


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
    """Start one server that most tests share; engines wait until it is ready."""
    folder = tmp_path_factory.mktemp("server")
    student = Student.load(ModelSettings(path=str(base_path()), device="cpu"), keep_initial=False)
    (command,) = launch_commands(student, Launch(**launch_options(python)), folder=folder, colocated=False, api_key=None)
    process = ServerProcess(command, folder / "sglang.log")
    process.start()
    yield process
    process.stop()


@pytest.fixture
def engine_at(server, tmp_path) -> Iterator[Callable[..., SGLangEngine]]:
    """Start engines that use the shared server."""
    engines: list[SGLangEngine] = []

    def start(student: Student, **options) -> SGLangEngine:
        engine = SGLangEngine(SGLangEngine.Config(url=server.command.url, patience=400, **options))
        engine.start(student, Site(tmp_path))
        engines.append(engine)
        return engine

    yield start
    for engine in engines:
        engine.close()


def requests_for(
    student: Student, problems: int, *, per_problem: int = 1, temperature: float = 1.0, max_new_tokens: int = 60
) -> list[GenerateRequest]:
    """Return requests for problems of the embedded laboratory."""
    sampling = Sampling(temperature=temperature, max_new_tokens=max_new_tokens)
    prompts = [student.prompt_ids(p.messages) for p in Micro().train_batch(step=0, count=problems, seed=0)]
    return [
        GenerateRequest(prompt_ids=prompt, sampling=sampling, seed=seed) for prompt in prompts for seed in range(per_problem)
    ]


def greedy(student: Student, engine: RolloutEngine, problems: int = 8, **options) -> list[Completion]:
    """Return an engine's completions at temperature 0."""
    return engine.generate(requests_for(student, problems, temperature=0.0), **options)


def transformers_engine(student: Student) -> TransformersEngine:
    engine = TransformersEngine()
    engine.start(student)
    return engine


def train(student: Student, amount: float = 0.02) -> None:
    """Change the trained weights, as training would."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in student.state().values():
            scale = weight.abs().mean() if weight.any() else torch.tensor(1.0)
            weight.add_(torch.randn(weight.shape, generator=generator) * amount * scale)
