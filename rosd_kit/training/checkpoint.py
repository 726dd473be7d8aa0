"""Checkpoints: their form on disk, and how they are read and verified. No pickle anywhere.

    step-000040/
      student.safetensors, optimizer.safetensors, ...   one file per component
      shards/                                           of sharded models instead: every rank's own files (shards.py)
      random.safetensors                                random states of torch
      state.json                                        everything that is not a tensor
      manifest.json                                     the SHA-256 of each file

`checkpoint_writer.py` writes them. Does not know what the tensors mean.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from rosd_kit.errors import RunError
from rosd_kit.parallel.ranks import Ranks
from rosd_kit.training.shards import FOLDER as SHARDS
from rosd_kit.training.shards import Like, read_shards
from rosd_kit.types import JsonObject

_FINISHED = re.compile(r"step-[0-9]+")
#: What reading a damaged file raises.
_DAMAGED = (OSError, ValueError, SafetensorError, AttributeError, TypeError, RecursionError)

#: manifest.json: the SHA-256 of each file, by its path below the checkpoint's folder.
Manifest = dict[str, str]


class RandomStates(TypedDict):
    """The states of the generators that keep theirs as plain values: python's, and numpy's legacy one."""

    python: tuple[int, Sequence[int], float | None]
    numpy: tuple[str, Sequence[int], int, int, float]


class RunValues(TypedDict):
    """What a run keeps besides tensors: the warnings so far, the batch sampled ahead, the groups that are open, and what the
    checkpoint belongs to."""

    warnings: list[str]
    prefetched: JsonObject | None
    open_groups: JsonObject | None
    identity: Mapping[str, object]


class SavedState(RunValues):
    """state.json. Older versions wrote no `identity` and no `open_groups`."""

    step: int
    random: RandomStates


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """The content of a checkpoint: tensors by component and name, and the plain values."""

    step: int
    tensors: dict[str, dict[str, Tensor]]
    state: SavedState


def list_checkpoints(folder: Path) -> list[Path]:
    """Return the finished checkpoints, oldest first."""
    paths = [path for path in folder.glob("step-*") if path.is_dir() and _FINISHED.fullmatch(path.name)]
    return sorted(paths, key=lambda path: int(path.name.removeprefix("step-")))


def load_checkpoint(path: Path, *, like: Like = lambda component, name: None, ranks: Ranks | None = None) -> Checkpoint:
    """Read a checkpoint and verify every file. Raises `RunError` that names a damaged or missing file.

    Tensors are whole, except that those of a sharded checkpoint are sharded as `like` says. All `ranks` call it together; each
    verifies its share of the files.
    """
    ranks = ranks or Ranks(device=torch.device("cpu"))
    manifest = _manifest(path)
    ranks.together(lambda: _verify(path, manifest, sorted(manifest)[ranks.rank :: ranks.count]))
    tensors: dict[str, dict[str, Tensor]] = {}
    with _damage_named(path) as reads:
        for name in manifest:
            if name.endswith(".safetensors") and "/" not in name:
                tensors[Path(name).stem] = load_file(reads(name))
        if any(name.startswith(f"{SHARDS}/") for name in manifest):
            listed, there = set(manifest), reads(SHARDS).glob("*.safetensors")  # torch reads every one that is there
            if stray := sorted(file.name for file in there if f"{SHARDS}/{file.name}" not in listed):
                raise ValueError(f"it holds {stray[0]}, which is not of this checkpoint")
            tensors |= read_shards(path, like, ranks)
    state = _state(path)
    return Checkpoint(step=state["step"], tensors=tensors, state=state)


def load_state(path: Path) -> SavedState:
    """Read only the plain values of a checkpoint and verify them. Raises `RunError` like `load_checkpoint`."""
    _verify(path, _manifest(path), ["state.json"])
    return _state(path)


def restore_random(checkpoint: Checkpoint) -> None:
    """Restore the random states that python, numpy and torch had at the checkpoint."""
    saved = checkpoint.state["random"]
    version, internal, gauss = saved["python"]
    random.setstate((version, tuple(internal), gauss))
    name, keys, position, has_gauss, gauss = saved["numpy"]
    np.random.set_state((name, np.array(keys, dtype=np.uint32), position, has_gauss, gauss))
    torch.set_rng_state(checkpoint.tensors["random"]["torch"])
    if torch.cuda.is_available() and "cuda" in checkpoint.tensors["random"]:
        torch.cuda.set_rng_state(checkpoint.tensors["random"]["cuda"])


def _manifest(path: Path) -> Manifest:
    with _damage_named(path) as reads:
        file = reads("manifest.json")
        if file.exists() and not file.is_file():  # a pipe would be waited for
            raise ValueError("it is not a file")
        manifest: Manifest = json.loads(file.read_text())
        if "state.json" not in manifest:
            raise ValueError("it does not list state.json")
        manifest = {str(name): digest for name, digest in manifest.items()}
    return manifest


def _verify(path: Path, manifest: Manifest, names: Iterable[str]) -> None:
    """Raise `RunError` for a file that is not as the manifest says."""
    with _damage_named(path) as reads:
        for name in names:
            file, folder = reads(name), Path(name).parent.as_posix()
            if folder not in (".", SHARDS) or (path / folder).is_symlink() or file.is_symlink():
                raise ValueError("it is not a file of this checkpoint's own folder")
            if file.exists() and not file.is_file():
                raise ValueError("it is not a file of this checkpoint's own folder")
            if file_digest(file) != manifest[name]:
                raise ValueError("its content differs from what was saved")


def _state(path: Path) -> SavedState:
    with _damage_named(path) as reads:
        values = json.loads(reads("state.json").read_text())
        if not isinstance(values, dict):
            raise ValueError("it holds no object")
        if "ahead" in values:  # its name before API 2
            values["prefetched"] = values.pop("ahead")
        state: SavedState = SavedState(**values)  # type: ignore[typeddict-item]
    return state


@contextmanager
def _damage_named(path: Path) -> Iterator[Callable[[str], Path]]:
    """Yield a function that returns a file of the checkpoint; an error is blamed on the file that was asked for last."""
    file = path

    def reads(name: str) -> Path:
        nonlocal file
        file = path / name
        return file

    try:
        yield reads
    except _DAMAGED as error:
        why = "it is missing" if isinstance(error, FileNotFoundError) else str(error)
        raise RunError(
            f"{file}: the checkpoint is damaged: {why}. "
            f"Remove {path} to resume from the previous checkpoint, or from the start if there is none."
        ) from error


def file_digest(file: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal digits."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
