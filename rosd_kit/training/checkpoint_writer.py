"""Writes checkpoints: to a temporary folder, which is renamed once every byte is on disk; also in a background thread.

The format is that of `checkpoint.py`. Does not know what the tensors mean.
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor

from rosd_kit.files import explain_write_errors
from rosd_kit.parallel.fsdp import local_shard
from rosd_kit.parallel.ranks import Ranks
from rosd_kit.training.checkpoint import Manifest, RandomStates, RunValues, SavedState, file_digest, list_checkpoints
from rosd_kit.training.shards import FOLDER, StateTensors, write_shards

#: What a killed process leaves behind; nothing else in the folder is removed, because it is not ours.
_LEFTOVER = re.compile(r"\.(?:writing|replaced|removing)-(?:step-)?[0-9]+")


class CheckpointWriter:
    """Writes the checkpoints of a run below `folder` and keeps the `keep` newest.

    With `background`, `save` only copies the tensors into the memory of the CPU; a thread writes them while the run goes on.
    All ranks call its methods together. Where tensors are sharded every rank writes its own, else the main rank writes alone.
    """

    def __init__(self, folder: Path, ranks: Ranks, *, keep: int, background: bool) -> None:
        self._folder, self._keep = folder, keep
        self._ranks = ranks.with_new_group() if background else ranks
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint") if background else None
        self._pending: Future[Path] | None = None

    def save(self, step: int, tensors: StateTensors, state: RunValues) -> None:
        """Write a checkpoint, or begin to. Raises `RunError` when the disk is full, in the background at the next call."""
        self.wait()
        if not (self._ranks.is_main or _is_sharded(tensors)):
            return
        saved, generators = SavedState(**state, step=step, random=_random_states()), _generators()
        if self._thread is None:
            _write_checkpoint(self._folder, tensors, saved, generators, self._keep, self._ranks)
            return
        copies = {component: {name: self._copied(t) for name, t in named.items()} for component, named in tensors.items()}
        self._pending = self._thread.submit(_write_checkpoint, self._folder, copies, saved, generators, self._keep, self._ranks)

    def wait(self) -> None:
        """Return when the checkpoint that was begun is on disk. Raises what its thread raised."""
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()

    def close(self) -> None:
        """Wait, and end the thread."""
        try:
            self.wait()
        finally:
            if self._thread is not None:
                self._thread.shutdown()

    def _copied(self, tensor: Tensor) -> Tensor:
        """Return a copy on the CPU, of a sharded tensor this rank's shard."""
        if not isinstance(tensor, DTensor):
            return tensor.detach().to("cpu", copy=True)
        assert self._ranks.group is not None, "tensors are sharded over several ranks"
        return DTensor.from_local(
            local_shard(tensor.detach()).to("cpu", copy=True),
            DeviceMesh.from_group(self._ranks.group, "cpu"),
            tensor.placements,
            run_check=False,
            shape=tensor.shape,
            stride=tensor.stride(),
        )


def save_checkpoint(folder: Path, step: int, tensors: StateTensors, state: RunValues, *, keep: int) -> Path:
    """Write `folder/step-NNNNNN`, with the random states of every library, and remove all but the `keep` newest.

    The final name appears only once every byte is on disk. Raises `RunError` when the disk is full; earlier checkpoints are not
    touched.
    """
    saved = SavedState(**state, step=step, random=_random_states())
    return _write_checkpoint(folder, tensors, saved, _generators(), keep, Ranks(device=torch.device("cpu")))


def _write_checkpoint(
    folder: Path, tensors: StateTensors, state: SavedState, generators: Mapping[str, Tensor], keep: int, ranks: Ranks
) -> Path:
    """Write a checkpoint; with sharded tensors all ranks together, else the main rank alone."""
    step = state["step"]
    final, unfinished = folder / f"step-{step:06d}", folder / f".writing-{step:06d}"
    remedy = "Earlier checkpoints are untouched. Make room, then continue with rosd-kit run --resume."
    shards = tensors if _is_sharded(tensors) else {}
    if not shards:
        ranks = Ranks(device=ranks.device)  # the others have nothing to write
    whole = {component: named for component, named in tensors.items() if not (shards and named)}
    try:
        with explain_write_errors(f"{final}:", remedy):
            ranks.together(lambda: _begin(folder, unfinished) if ranks.is_main else None)
            own = write_shards(unfinished, shards, ranks) if shards else []
            digests = ranks.together(lambda: {f"{FOLDER}/{file.name}": file_digest(file) for file in own})
            manifest: Manifest = {name: digest for one in digests for name, digest in one.items()}
            ranks.together(
                lambda: _finish(unfinished, final, {**whole, "random": generators}, state, manifest) if ranks.is_main else None
            )
    except Exception:
        if ranks.is_main:
            shutil.rmtree(unfinished, ignore_errors=True)
        raise
    if ranks.is_main:
        for old in list_checkpoints(folder)[:-keep]:
            _remove(old)
    return final


def _is_sharded(tensors: StateTensors) -> bool:
    return any(isinstance(tensor, DTensor) for named in tensors.values() for tensor in named.values())


def _begin(folder: Path, unfinished: Path) -> None:
    """Remove what killed processes left behind, and make the folder that is written to."""
    folder.mkdir(parents=True, exist_ok=True)
    for leftover in [path for path in folder.iterdir() if _LEFTOVER.fullmatch(path.name)]:
        shutil.rmtree(leftover) if leftover.is_dir() and not leftover.is_symlink() else leftover.unlink()
    unfinished.mkdir()


def _finish(unfinished: Path, final: Path, tensors: StateTensors, state: SavedState, manifest: Manifest) -> None:
    """Write whole tensors, values and the manifest, bring everything to the disk, and give the folder its name."""
    for component, named in tensors.items():
        file = unfinished / f"{component}.safetensors"
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in named.items()}, file)
        manifest[file.name] = file_digest(file)
    (unfinished / "state.json").write_text(json.dumps(state))
    manifest["state.json"] = file_digest(unfinished / "state.json")
    (unfinished / "manifest.json").write_text(json.dumps(manifest, indent=1))
    for path in (*unfinished.iterdir(), unfinished):
        _sync(path)
    if final.exists():
        final.rename(final.with_name(f".replaced-{final.name}"))
    unfinished.rename(final)
    _sync(final.parent)


def _generators() -> dict[str, Tensor]:
    """Return the states of torch's own generators."""
    generators = {"torch": torch.get_rng_state()}
    if torch.cuda.is_available():
        generators["cuda"] = torch.cuda.get_rng_state()
    return generators


def _random_states() -> RandomStates:
    state = np.random.get_state(legacy=True)
    assert isinstance(state, tuple), "the legacy form is asked for"
    name, keys, position, has_gauss, gauss = state
    return {"python": random.getstate(), "numpy": (name, keys.tolist(), position, has_gauss, gauss)}


def _remove(checkpoint: Path) -> None:
    """Remove a checkpoint. The rename means it no longer counts as one, even if removal fails; the next save retries."""
    hidden = checkpoint.with_name(f".removing-{checkpoint.name}")
    with suppress(OSError):
        shutil.rmtree(checkpoint.rename(hidden))


def _sync(path: Path) -> None:
    """Flush a file or folder to disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
