"""What is run: one resolved recipe with one seed is a trial, whose identity is everything its numbers depend on by intent.

Two trials are the same when their recipes agree in all but the name and what is only written or told (checkpoints, samples,
warnings, trackers), and when rosd-kit and the plugins that bring their parts have the same versions; of a plugin's file its
content counts. Not part of it, but noted with every result and told in the report where results differ in it: rosd-kit's own
source, torch, transformers, threads and device. So an edited comment runs nothing again, and a mixture is not hidden.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Container, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import rosd_kit
from rosd_kit.contracts import SLOTS
from rosd_kit.errors import RunError
from rosd_kit.plugins.registry import Registry
from rosd_kit.recipe import Recipe, to_values
from rosd_kit.sweep.combinations import Cell
from rosd_kit.version import __version__

_TOLD_ONLY = ("name", "checkpoint", "samples", "watch", "tracking")
_DIGITS = 16


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One run of a sweep: `id` tells it from all others, `cell` is the place of its combination in the plan."""

    id: str
    cell: int
    seed: int
    recipe: Recipe


def trials_of(cells: Sequence[Cell], seeds: Sequence[int], registry: Registry) -> tuple[Trial, ...]:
    """Return every combination with every seed, seed by seed, so that what is finished first can be compared.

    Without seeds, each cell's own is taken. Raises `RunError` for a recipe that a trial cannot run.
    """
    for cell in cells:
        _check(cell.recipe)
    rounds = [[(place, cell.recipe.model_copy(update={"seed": seed})) for place, cell in enumerate(cells)] for seed in seeds]
    planned = [pair for one in rounds for pair in one] or [(place, cell.recipe) for place, cell in enumerate(cells)]
    return tuple(Trial(id=identity(recipe, registry), cell=place, seed=recipe.seed, recipe=recipe) for place, recipe in planned)


def identity(recipe: Recipe, registry: Registry) -> str:
    """Return the first digits of the SHA-256 of what makes a trial this one."""
    values = {field: value for field, value in to_values(recipe).items() if field not in _TOLD_ONLY}
    return digest({"recipe": values, "rosd-kit": __version__, "code": code_of(recipe, registry, SLOTS)})


def code_of(recipe: Recipe, registry: Registry, slots: Container[str]) -> list[tuple[str, str]]:
    """Return the plugins that bring a recipe's parts in some slots, each with its version or what stands for it."""
    origins = {registry.entry(kind, choice.name).origin for kind, choice in recipe.choices() if kind in slots}
    return sorted({(o.plugin.rpartition("_")[0] if o.distribution == "file" else o.plugin, _version(o)) for o in origins})


def digest(value: Any) -> str:
    """Return a name for plain values: the same for the same values, in every process."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:_DIGITS]


def source_digest() -> str:
    """Return a name for rosd-kit's own source as it is now."""
    folder = Path(rosd_kit.__file__).parent
    parts = [(path.relative_to(folder).as_posix(), path.read_bytes()) for path in sorted(folder.rglob("*.py"))]
    return digest([(name, hashlib.sha256(content).hexdigest()) for name, content in parts])


def _version(origin: Any) -> str:
    if origin.distribution == "file":
        return hashlib.sha256(Path(origin.file).expanduser().read_bytes()).hexdigest()
    return str(origin.version)


def _check(recipe: Recipe) -> None:
    if recipe.evaluation.problems == 0:
        raise RunError("evaluation.problems: 0 measures nothing, and there would be nothing to compare. Set it to 1 or more")
    if recipe.parallel.processes not in (None, 1) or recipe.parallel.mode in ("ddp", "fsdp"):
        raise RunError("parallel: a trial of a sweep is one process. Leave `parallel` out, or use rosd-kit run with torchrun")
