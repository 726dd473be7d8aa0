"""Defines trials and their ids. A trial is one resolved recipe with one seed; its id covers everything its numbers depend on.

Two trials have the same id when their recipes agree in all but the name and what is only written or reported (checkpoints,
samples, warnings, trackers), and when rosd-kit and the plugins of their components have the same versions; for a plugin file,
its content counts. The id does not cover rosd-kit's own source, torch, transformers, threads and device: these are recorded
with each result, and the report says where results differ in them. So an edited comment does not cause trials to run again,
and results from different environments are still noticed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Container, Sequence
from dataclasses import dataclass
from pathlib import Path

import rosd_kit
from rosd_kit.contracts import SLOTS
from rosd_kit.errors import RunError
from rosd_kit.plugins.registry import Origin, Registry
from rosd_kit.recipe import Recipe, to_values
from rosd_kit.recipe.source_file import digest_of
from rosd_kit.sweep.combinations import Combination
from rosd_kit.types import JsonObject
from rosd_kit.version import __version__

_FIELDS_WITHOUT_EFFECT = ("name", "checkpoint", "samples", "watch", "tracking")
#: Fields that are younger than results which people keep, each with the value that means what was done before it: with this
#: value they are left out of an id, so that those results stay those of the same trial.
_YOUNGER: dict[tuple[str, ...], object] = {
    ("model", "kernels"): "plain",
    ("model", "tree_attention"): "auto",
    ("rollout", "launch", "initial_servers"): 0,
    ("sampling", "extra_problems"): 0,
}
_DIGITS = 16


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One run of a sweep. `combination` is the index of its combination in the plan."""

    id: str
    combination: int
    seed: int
    recipe: Recipe


def make_trials(combinations: Sequence[Combination], seeds: Sequence[int], registry: Registry) -> tuple[Trial, ...]:
    """Return a trial for every combination and seed, ordered by seed so that finished trials can be compared early.

    Without seeds, each combination runs with its recipe's own. Raises `RunError` for a recipe that a trial cannot run.
    """
    for combination in combinations:
        _check(combination.recipe)
    recipes = [
        (index, combination.recipe.model_copy(update={"seed": seed}))
        for seed in seeds
        for index, combination in enumerate(combinations)
    ] or [(index, combination.recipe) for index, combination in enumerate(combinations)]
    return tuple(
        Trial(id=trial_id(recipe, registry), combination=index, seed=recipe.seed, recipe=recipe) for index, recipe in recipes
    )


def trial_id(recipe: Recipe, registry: Registry) -> str:
    """Return a trial's id: the first digits of a SHA-256 of everything its numbers depend on."""
    values = {field: value for field, value in to_values(recipe).items() if field not in _FIELDS_WITHOUT_EFFECT}
    for path, before in _YOUNGER.items():
        values = _without(values, path, before)
    return digest({"recipe": values, "rosd-kit": __version__, "code": plugin_versions(recipe, registry, SLOTS)})


def _without(values: JsonObject, path: Sequence[str], value: object) -> JsonObject:
    """Return values without the one at a path of keys if it is `value`."""
    key, *rest = path
    inner = values.get(key)
    if rest:
        return {**values, key: _without(inner, rest, value)} if isinstance(inner, dict) else values
    return {name: one for name, one in values.items() if name != key or one != value}


def plugin_versions(recipe: Recipe, registry: Registry, slots: Container[str]) -> list[tuple[str, str]]:
    """Return the plugins that provide a recipe's components in some slots, each with its version or its file's digest."""
    origins = {registry.entry(kind, choice.name).origin for kind, choice in recipe.choices() if kind in slots}
    return sorted({(o.plugin.rpartition("_")[0] if o.distribution == "file" else o.plugin, _version(o)) for o in origins})


def digest(value: object) -> str:
    """Return a short hash of a JSON-serialisable value, the same in every process."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:_DIGITS]


def trust_digests(recipe: str, plugins: Sequence[str]) -> tuple[str, str]:
    """Return digests of what a planned trial runs: its recipe's text, and the plugin files.

    The scheduler gives them to the worker, because anyone may have written the store of a sweep from elsewhere.
    """
    return digest_of(recipe.encode()), digest_of(json.dumps(list(plugins)).encode())


def source_digest() -> str:
    """Return a short hash of rosd-kit's own source files."""
    folder = Path(rosd_kit.__file__).parent
    files = [(path.relative_to(folder).as_posix(), path.read_bytes()) for path in sorted(folder.rglob("*.py"))]
    return digest([(name, hashlib.sha256(content).hexdigest()) for name, content in files])


def _version(origin: Origin) -> str:
    if origin.distribution == "file":
        return hashlib.sha256(Path(origin.file).expanduser().read_bytes()).hexdigest()
    return origin.version


def _check(recipe: Recipe) -> None:
    if recipe.evaluation.problems == 0:
        raise RunError("evaluation.problems: with 0 problems there is nothing to compare. Set it to 1 or more")
    if recipe.parallel.processes not in (None, 1) or recipe.parallel.mode in ("ddp", "fsdp"):
        raise RunError(
            "parallel: each trial of a sweep is one process. Leave `parallel` out, or use rosd-kit run with torchrun"
        )
