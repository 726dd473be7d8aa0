"""What a checkpoint belongs to: its run, recipe, model and data. A resume compares it with what is there now."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NotRequired, TypedDict

import yaml

from rosd_kit.errors import RunError
from rosd_kit.plugins.registry import Registry
from rosd_kit.recipe import Recipe, load_recipe, to_yaml

#: Files up to this size are digested whole; of larger ones, as many blocks in even distances as fit.
_WHOLE_BYTES, _BLOCK_BYTES = 1 << 30, 1 << 22


class IdentityRecord(TypedDict):
    """What a checkpoint keeps of its run: its id, digests of the first weights and of data files, the recipe as YAML.

    `digest` is one of all the rest.
    """

    run: str
    model: str
    data: dict[str, str]
    recipe: str
    digest: NotRequired[str]


@dataclass(frozen=True, kw_only=True)
class Identity:
    """A run's id, the digest of the weights it began with, and the digests of the task's data files by path."""

    run: str
    model: str
    data: Mapping[str, str]

    def state(self, recipe: Recipe) -> IdentityRecord:
        """Return what a checkpoint keeps, with the recipe by which it was trained and a digest of everything."""
        state: IdentityRecord = {"run": self.run, "model": self.model, "data": dict(self.data), "recipe": to_yaml(recipe)}
        state["digest"] = _digest_of(state)
        return state

    def check(self, state: object, checkpoint: Path) -> None:
        """Raise `RunError` that names what a checkpoint's state does not share with this run; the recipe is not compared."""
        saved = _checked(state, checkpoint)
        if saved["run"] != self.run:
            raise RunError(
                f"{checkpoint}: belongs to run {saved['run']}, and this folder holds run {self.run}. "
                f"Move it back to its own run's folder to resume this run from its own checkpoints."
            )
        if saved["model"] != self.model:
            raise RunError(
                f"model: this run began with weights of digest {saved['model']}, and model.path now holds {self.model}. "
                "Put the former weights back, or begin a new run."
            )
        if changed := _differences(saved["data"], self.data):
            raise RunError(
                f"task: data files are not those that this run began with: {'; '.join(changed)}. "
                "Put the former files back, or begin a new run."
            )


def new_run_id() -> str:
    """Return an id for a new run."""
    return secrets.token_hex(8)


def saved_run_id(state: object, checkpoint: Path) -> str:
    """Return the id of the run that saved a checkpoint."""
    return str(_checked(state, checkpoint)["run"])


def saved_recipe(state: object, checkpoint: Path, registry: Registry) -> Recipe:
    """Return the recipe by which a checkpoint was trained."""
    values = yaml.safe_load(_checked(state, checkpoint)["recipe"])
    return load_recipe(values, registry=registry)


def data_digests(files: Iterable[Path]) -> dict[str, str]:
    """Return the digest of each file by its path."""
    return {str(file): _digest_of_file(file) for file in sorted(set(files))}


def _checked(state: object, checkpoint: Path) -> IdentityRecord:
    if isinstance(state, dict):
        content = {key: value for key, value in state.items() if key != "digest"}
        if content.keys() == {"run", "model", "data", "recipe"} and state.get("digest") == _digest_of(content):
            return IdentityRecord(run=content["run"], model=content["model"], data=content["data"], recipe=content["recipe"])
    raise RunError(
        f"{checkpoint}/state.json: what it says about its run was changed after it was saved. "
        f"Remove {checkpoint} to resume from the previous checkpoint, or from the start if there is none."
    )


def _digest_of(state: Mapping[str, object]) -> str:
    return hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()


def _differences(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    words = {}
    for file in sorted({*before, *now}):
        if before.get(file) != now.get(file):
            words[file] = "is new" if file not in before else "is gone" if file not in now else "has changed"
    return [f"{file} {what}" for file, what in words.items()]


def _digest_of_file(file: Path) -> str:
    size = file.stat().st_size
    with file.open("rb") as stream:
        if size <= _WHOLE_BYTES:
            return hashlib.file_digest(stream, "sha256").hexdigest()[:16]
        return _digest_of_blocks(stream, size)


def _digest_of_blocks(stream: BinaryIO, size: int) -> str:
    digest = hashlib.sha256(str(size).encode())
    count = _WHOLE_BYTES // _BLOCK_BYTES
    for number in range(count):
        stream.seek((size - _BLOCK_BYTES) * number // (count - 1))
        digest.update(stream.read(_BLOCK_BYTES))
    return digest.hexdigest()[:16]
