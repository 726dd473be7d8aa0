"""Tiny runs of the ROSD recipe on the embedded model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from rosd_kit.display import Display
from rosd_kit.files import read_json_lines
from rosd_kit.plugins.manager import PluginManager
from rosd_kit.recipe import load_recipe
from rosd_kit.run.loop import run_recipe

TINY = (
    "problems_per_step=2",
    "group_size=2",
    "sampling.max_new_tokens=16",
    "evaluation.problems=0",
    "gate=all",
    "demonstration=reference",
    "reflector=oracle",
    "localizer=full",
    "optimizer.warmup_steps=0",
    "checkpoint.every=1",
    "watch.truncated=null",  # 16 tokens cut off most responses
)


class Folder:
    """A run's folder, as a test reads it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def lines(self, name: str) -> list[dict[str, Any]]:
        return list(read_json_lines(self.path / name))

    def weights(self) -> dict[str, Tensor]:
        return load_file(self.path / "model/model.safetensors")

    def student(self, step: int) -> dict[str, Tensor]:
        return load_file(self.path / f"checkpoints/step-{step:06d}/student.safetensors")

    def sampled(self) -> dict[str, list[list[int]]]:
        """Return the sampled ids of each step whose samples were written."""
        files = sorted((self.path / "samples").glob("*.jsonl"))
        return {file.stem: [record["token_ids"] for record in self.lines(f"samples/{file.name}")] for file in files}


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def tiny() -> tuple[str, ...]:
    return TINY


@pytest.fixture(scope="session")
def open_run() -> Callable[[Path], Folder]:
    return Folder


@pytest.fixture(scope="session")
def run() -> Callable[..., Folder]:
    """Run the tiny recipe in a folder, or go on there."""

    def run(
        path: Path, *changes: str, resume: bool = False, plugins: Sequence[Path] = (), display: Display | None = None
    ) -> Folder:
        manager = PluginManager(plugins)
        recipe = load_recipe("rosd", [*TINY, *changes], "micro", registry=manager.registry)
        run_recipe(
            recipe,
            plugins=manager,
            out=path.parent,
            name=path.name,
            resume=path if resume else None,
            display=display or Display(),
        )
        return Folder(path)

    return run


@pytest.fixture(scope="session")
def same() -> Callable[[dict[str, Tensor], dict[str, Tensor]], bool]:
    """Say whether two sets of tensors are equal bit for bit."""

    def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
        return one.keys() == other.keys() and all(one[name].equal(other[name]) for name in one)

    return same
