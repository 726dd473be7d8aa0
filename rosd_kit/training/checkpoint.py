"""Checkpoints: written aside, verified, renamed; no pickle anywhere.

A checkpoint is a folder `step-000040/` with one safetensors file a part, `state.json` for everything that is not a tensor,
and `manifest.json` with the SHA-256 of each file. Knows nothing of what the tensors mean.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from rosd_kit.errors import RunError
from rosd_kit.files import explain_write_errors

_FINISHED = re.compile(r"step-\d+")

StateTensors = Mapping[str, Mapping[str, Tensor]]


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """What a checkpoint held: tensors by part and name, and the plain values."""

    step: int
    parts: dict[str, dict[str, Tensor]]
    state: dict[str, Any]


def save_checkpoint(folder: Path, step: int, parts: StateTensors, state: Mapping[str, Any], *, keep: int) -> Path:
    """Write `folder/step-NNNNNN` and remove all but the `keep` newest; random states of every library are added.

    The final name appears only once every byte is on the disk. Raises `RunError` when there is no room; what was saved
    before stays as it is.
    """
    final = folder / f"step-{step:06d}"
    aside = folder / f".writing-{step:06d}"
    remedy = "Earlier checkpoints are untouched. Make room, then continue with rosd-kit run --resume."
    try:
        with explain_write_errors(f"{final}:", remedy):
            folder.mkdir(parents=True, exist_ok=True)
            for left in folder.glob(".*-*"):
                shutil.rmtree(left)
            _write(aside, parts, {**state, "step": step, "random": _random_states()})
            if final.exists():
                final.rename(folder / f".replaced-{step:06d}")
            aside.rename(final)
            _sync(folder)
    except Exception:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    for old in list_checkpoints(folder)[:-keep]:
        _remove(old)
    return final


def list_checkpoints(folder: Path) -> list[Path]:
    """Return the finished checkpoints, oldest first."""
    found = [path for path in folder.glob("step-*") if path.is_dir() and _FINISHED.fullmatch(path.name)]
    return sorted(found, key=lambda path: int(path.name.removeprefix("step-")))


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint and verify every file. Raises `RunError` naming the file that is damaged or missing."""
    file = path / "manifest.json"
    try:
        manifest = json.loads(file.read_text())
        for name, digest in manifest.items():
            file = path / name
            if _digest(file) != digest:
                raise ValueError("its content is not what was saved")
        file = path / "state.json"
        state = json.loads(file.read_text())
        parts = {}
        for file in (path / name for name in manifest if name.endswith(".safetensors")):
            parts[file.stem] = load_file(file)
    except (OSError, ValueError, SafetensorError, AttributeError) as error:
        why = "it is missing" if isinstance(error, FileNotFoundError) else str(error)
        raise RunError(
            f"{file}: the checkpoint is damaged: {why}. "
            f"Remove {path} to go on from the checkpoint before it, or from the start when there is none."
        ) from error
    return Checkpoint(step=state["step"], parts=parts, state=state)


def restore_random(checkpoint: Checkpoint) -> None:
    """Put the random states of python, numpy and torch back where they were at the checkpoint."""
    saved = checkpoint.state["random"]
    version, internal, gauss = saved["python"]
    random.setstate((version, tuple(internal), gauss))
    name, keys, *rest = saved["numpy"]
    np.random.set_state((name, np.array(keys, dtype=np.uint32), *rest))
    torch.set_rng_state(checkpoint.parts["random"]["torch"])
    if torch.cuda.is_available() and "cuda" in checkpoint.parts["random"]:
        torch.cuda.set_rng_state(checkpoint.parts["random"]["cuda"])


def _random_states() -> dict[str, Any]:
    name, keys, *rest = np.random.get_state(legacy=True)
    return {"python": random.getstate(), "numpy": [str(name), [int(k) for k in keys], *rest]}


def _write(folder: Path, parts: StateTensors, state: Mapping[str, Any]) -> None:
    folder.mkdir()
    generators = {"torch": torch.get_rng_state()}
    if torch.cuda.is_available():
        generators["cuda"] = torch.cuda.get_rng_state()
    manifest = {}
    for name, tensors in {**parts, "random": generators}.items():
        file = folder / f"{name}.safetensors"
        save_file({key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}, file)
        manifest[file.name] = _digest(file)
    (folder / "state.json").write_text(json.dumps(state))
    manifest["state.json"] = _digest(folder / "state.json")
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=1))
    for file in folder.iterdir():
        _sync(file)
    _sync(folder)


def _remove(checkpoint: Path) -> None:
    """Remove a checkpoint; what cannot be removed now no longer counts as one, and goes with the next save."""
    hidden = checkpoint.with_name(f".removing-{checkpoint.name}")
    with suppress(OSError):
        shutil.rmtree(checkpoint.rename(hidden))


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _sync(path: Path) -> None:
    """Have the system write a file or folder to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
