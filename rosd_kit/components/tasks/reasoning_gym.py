"""Procedural problems from reasoning-gym: over a hundred kinds, each seeded and scored by its own rules."""

from __future__ import annotations

import importlib.util
from functools import lru_cache
from typing import TYPE_CHECKING

from pydantic import Field

from rosd_kit.contracts import Task
from rosd_kit.errors import RunError, did_you_mean
from rosd_kit.options import Config
from rosd_kit.seeds import stable_seed
from rosd_kit.types import JsonObject, Message, Problem

if TYPE_CHECKING:
    from reasoning_gym.dataset import ProceduralDataset

INSTRUCTION = "Think step by step. Give the final answer inside <answer> and </answer>."


class Kind(Config):
    """One kind of problem."""

    kind: str
    """Name of a reasoning-gym data set, for example `chain_sum`."""
    options: dict[str, object] = Field(default_factory=dict)
    """Options of that data set, for example `{min_terms: 3, max_terms: 5}`."""
    levels: dict[str, int] = Field(default_factory=dict)
    """Curriculum level of each attribute, counted from 0, for example `{num_terms: 2}`."""


class ReasoningGym(Task):
    """Problems from reasoning-gym, new ones at every step; use it with the verifier `reasoning_gym`."""

    name = "reasoning_gym"
    provides = frozenset({"gym_entry"})

    class Config(Task.Config):
        """Options of `reasoning_gym`."""

        train: list[Kind] = Field(min_length=1)
        """Kinds to train on, in turn; each is also evaluated, as a suite with its name."""
        suites: list[Kind] = Field(default_factory=list)
        """Further kinds to evaluate on, outside the trained domain."""
        system: str | None = INSTRUCTION
        """The system message; null for none."""

    def train_batch(self, *, step: int, count: int, seed: int) -> list[Problem]:
        kinds = self.config.train
        return [
            self._problem(kinds[index % len(kinds)], "train", stable_seed(seed, "train", index), index)
            for index in range(step * count, (step + 1) * count)
        ]

    def suites(self, *, count: int, seed: int) -> dict[str, list[Problem]]:
        kinds: dict[str, Kind] = {}
        for kind in [*self.config.train, *self.config.suites]:
            kinds.setdefault(kind.kind, kind)
        return {
            name: [self._problem(kind, "test", stable_seed(seed, "test", index), index) for index in range(count)]
            for name, kind in kinds.items()
        }

    def in_domain(self) -> frozenset[str]:
        return frozenset(kind.kind for kind in self.config.train)

    def _problem(self, kind: Kind, split: str, seed: int, index: int) -> Problem:
        (entry,) = make_dataset(kind, seed % (1 << 31), 1)
        system: list[Message] = [{"role": "system", "content": self.config.system}] if self.config.system else []
        return Problem(
            id=f"{kind.kind}-{split}-{index}",
            suite=kind.kind,
            messages=(*system, {"role": "user", "content": entry["question"]}),
            answer="" if entry["answer"] is None else str(entry["answer"]),
            meta={"kind": kind.kind, "entry": entry},
        )


def make_dataset(kind: Kind, seed: int, size: int) -> ProceduralDataset:
    """Return `size` entries of a kind. Raises `RunError` if the kind, an option or a level does not exist."""
    if importlib.util.find_spec("reasoning_gym") is None:
        raise RunError('task=reasoning_gym needs reasoning-gym. Run: pip install "rosd-kit[gym]"')
    import reasoning_gym
    from reasoning_gym.factory import DATASETS

    if kind.kind not in DATASETS:
        near = did_you_mean(kind.kind, DATASETS) or f" Known: {', '.join(sorted(DATASETS))}"
        raise RunError(f"task.train: reasoning-gym has no {kind.kind!r}.{near}")
    if kind.kind == "composite":
        raise RunError(
            "task.train: 'composite' mixes other kinds, by options that a recipe cannot write. List those kinds in task.train "
            "instead: they are taken in turn."
        )
    try:
        options = {**_options_of_levels(kind.kind, tuple(sorted(kind.levels.items()))), **kind.options}
        return reasoning_gym.create_dataset(kind.kind, seed=seed, size=size, **options)
    except Exception as error:  # each kind checks its options in its own way, or only fails at them
        known = sorted(vars(DATASETS[kind.kind][1]())) if not kind.levels else "see its curriculum"
        raise RunError(f"task.train: {kind.kind} refuses {kind.options or kind.levels}: {error}. Options: {known}") from error


@lru_cache(maxsize=256)
def _options_of_levels(kind: str, levels: tuple[tuple[str, int], ...]) -> JsonObject:
    """Return the options that a kind's curriculum sets for these levels."""
    if not levels:
        return {}
    from reasoning_gym.factory import create_curriculum

    curriculum = create_curriculum(kind)
    for attribute, level in levels:
        curriculum.set_attr_level(attribute, level)
    options = vars(curriculum.generate_configuration())
    return {name: value for name, value in options.items() if name not in ("seed", "size")}
