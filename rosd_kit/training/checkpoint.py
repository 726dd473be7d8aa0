"""Checkpoints: written to a temporary folder, then renamed; verified when read; no pickle anywhere.

    step-000040/
      student.safetensors, optimizer.safetensors, ...   one file per component
      random.safetensors                                random states of torch
      state.json                                        everything that is not a tensor
      manifest.json                                     the SHA-256 of each file

Does not know what the tensors mean.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from rosd_kit.errors import RunError
from rosd_kit.files import explain_write_errors
from rosd_kit.types import JsonObject

_FINISHED = re.compile(r"step-[0-9]+")
#: What a killed process leaves behind; nothing else in the folder is removed, because it is not ours.
_LEFTOVER = re.compile(r"\.(?:writing|replaced|removing)-(?:step-)?[0-9]+")

StateTensors = Mapping[str, Mapping[str, Tensor]]
#: manifest.json: the SHA-256 of each file, by its name.
Manifest = dict[str, str]


class RandomStates(TypedDict):
    """The states of the generators that keep theirs as plain values: python's, and numpy's legacy one."""

    python: tuple[int, Sequence[int], float | None]
    numpy: tuple[str, Sequence[int], int, int, float]


class RunValues(TypedDict):
    """What a run keeps besides tensors: the warnings so far, the batch sampled ahead, and what the checkpoint belongs to."""

    warnings: list[str]
    prefetched: JsonObject | None
    identity: Mapping[str, object]


class SavedState(RunValues):
    """state.json. Older versions wrote no `identity`."""

    step: int
    random: RandomStates


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """The content of a checkpoint: tensors by component and name, and the plain values."""

    step: int
    tensors: dict[str, dict[str, Tensor]]
    state: SavedState


def save_checkpoint(folder: Path, step: int, tensors: StateTensors, state: RunValues, *, keep: int) -> Path:
    """Write `folder/step-NNNNNN`, with the random states of every library, and remove all but the `keep` newest.

    The final name appears only once every byte is on disk. Raises `RunError` when the disk is full; earlier checkpoints are not
    touched.
    """
    final = folder / f"step-{step:06d}"
    unfinished = folder / f".writing-{step:06d}"
    remedy = "Earlier checkpoints are untouched. Make room, then continue with rosd-kit run --resume."
    try:
        with explain_write_errors(f"{final}:", remedy):
            folder.mkdir(parents=True, exist_ok=True)
            for leftover in [path for path in folder.iterdir() if _LEFTOVER.fullmatch(path.name)]:
                shutil.rmtree(leftover) if leftover.is_dir() and not leftover.is_symlink() else leftover.unlink()
            _write(unfinished, tensors, SavedState(**state, step=step, random=_random_states()))
            if final.exists():
                final.rename(folder / f".replaced-{step:06d}")
            unfinished.rename(final)
            _sync(folder)
    except Exception:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    for old in list_checkpoints(folder)[:-keep]:
        _remove(old)
    return final


def list_checkpoints(folder: Path) -> list[Path]:
    """Return the finished checkpoints, oldest first."""
    paths = [path for path in folder.glob("step-*") if path.is_dir() and _FINISHED.fullmatch(path.name)]
    return sorted(paths, key=lambda path: int(path.name.removeprefix("step-")))


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint and verify every file. Raises `RunError` that names a damaged or missing file."""
    state, tensors = _verified(path, with_tensors=True)
    return Checkpoint(step=state["step"], tensors=tensors, state=state)


def load_state(path: Path) -> SavedState:
    """Read only the plain values of a checkpoint and verify them. Raises `RunError` like `load_checkpoint`."""
    return _verified(path, with_tensors=False)[0]


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


def _verified(path: Path, *, with_tensors: bool) -> tuple[SavedState, dict[str, dict[str, Tensor]]]:
    file = path / "manifest.json"
    tensors = {}
    try:
        if file.exists() and not file.is_file():  # a pipe would be waited for
            raise ValueError("it is not a file")
        manifest: Manifest = json.loads(file.read_text())
        if "state.json" not in manifest:
            raise ValueError("it does not list state.json")
        wanted = [name for name in manifest if with_tensors or name == "state.json"]
        for name in wanted:
            file = path / name
            if name != file.name or file.is_symlink() or (file.exists() and not file.is_file()):
                raise ValueError("it is not a file of this checkpoint's own folder")
            if _digest(file) != manifest[name]:
                raise ValueError("its content differs from what was saved")
        file = path / "state.json"
        values = json.loads(file.read_text())
        if not isinstance(values, dict):
            raise ValueError("it holds no object")
        if "ahead" in values:  # its name before API 2
            values["prefetched"] = values.pop("ahead")
        state = SavedState(**values)  # type: ignore[typeddict-item]
        for file in (path / name for name in wanted if name.endswith(".safetensors")):
            tensors[file.stem] = load_file(file)
    except (OSError, ValueError, SafetensorError, AttributeError, TypeError, RecursionError) as error:
        why = "it is missing" if isinstance(error, FileNotFoundError) else str(error)
        raise RunError(
            f"{file}: the checkpoint is damaged: {why}. "
            f"Remove {path} to resume from the previous checkpoint, or from the start if there is none."
        ) from error
    return state, tensors


def _random_states() -> RandomStates:
    state = np.random.get_state(legacy=True)
    assert isinstance(state, tuple), "the legacy form is asked for"
    name, keys, position, has_gauss, gauss = state
    return {"python": random.getstate(), "numpy": (name, keys.tolist(), position, has_gauss, gauss)}


def _write(folder: Path, tensors: StateTensors, state: SavedState) -> None:
    folder.mkdir()
    generators = {"torch": torch.get_rng_state()}
    if torch.cuda.is_available():
        generators["cuda"] = torch.cuda.get_rng_state()
    manifest: Manifest = {}
    for component, named in {**tensors, "random": generators}.items():
        file = folder / f"{component}.safetensors"
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in named.items()}, file)
        manifest[file.name] = _digest(file)
    (folder / "state.json").write_text(json.dumps(state))
    manifest["state.json"] = _digest(folder / "state.json")
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=1))
    for file in folder.iterdir():
        _sync(file)
    _sync(folder)


def _remove(checkpoint: Path) -> None:
    """Remove a checkpoint. The rename means it no longer counts as one, even if removal fails; the next save retries."""
    hidden = checkpoint.with_name(f".removing-{checkpoint.name}")
    with suppress(OSError):
        shutil.rmtree(checkpoint.rename(hidden))


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _sync(path: Path) -> None:
    """Flush a file or folder to disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
