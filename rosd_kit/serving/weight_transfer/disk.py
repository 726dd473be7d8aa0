"""Sends weights through files: works for every server that sees the folder, whatever its interpreter and network."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path

from safetensors.torch import save_file

from rosd_kit.errors import EngineError
from rosd_kit.files import explain_write_errors
from rosd_kit.serving.client import Client
from rosd_kit.serving.protocol import ServerInfo
from rosd_kit.serving.weight_transfer.base import LabeledWeights, WeightTransfer, buckets
from rosd_kit.serving.weight_transfer.scratch import ScratchFolder


class DiskTransfer(WeightTransfer):
    """Writes safetensors under a temporary name, renames them, and asks the server to load them.

    Weights are written once for all servers; the previous weights are deleted when the new ones are complete. `folder` belongs
    to this transfer alone, its name begins with `rosd-kit-`, and `close` removes it. `write_config` writes the model's
    configuration into a folder.
    """

    def __init__(self, folder: Path, write_config: Callable[[Path], None]) -> None:
        self._folder = folder
        self._scratch = ScratchFolder(folder)
        self._write_config = write_config
        self._writing = asyncio.Lock()
        self._bytes = 0

    async def send(self, weights: LabeledWeights, client: Client, info: ServerInfo) -> int:
        async with self._writing:
            model_path = await asyncio.to_thread(self._ensure_written, weights)
        await client.load_files(model_path, weights.label)
        return self._bytes

    async def close(self) -> None:
        self._scratch.close()

    def _ensure_written(self, weights: LabeledWeights) -> Path:
        final = self._folder / f"weights-{weights.label}"
        if not final.is_dir():
            subject, remedy = f"rollout.sync_dir: {self._folder}", "Name a folder with space for two sets of weights."
            with explain_write_errors(subject, remedy, EngineError):
                self._write(weights, final)
        return final

    def _write(self, weights: LabeledWeights, final: Path) -> None:
        partial = self._scratch.open() / f"weights-{weights.label}.part"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        self._write_config(partial)
        self._bytes = 0
        for number, bucket in enumerate(buckets(weights.tensors()), start=1):
            tensors = {name: tensor.cpu().contiguous() for name, tensor in bucket}
            save_file(tensors, partial / f"model-{number:05d}.safetensors", metadata={"format": "pt"})
            self._bytes += sum(tensor.nbytes for tensor in tensors.values())
        partial.rename(final)
        for previous in self._folder.glob("weights-*"):
            if previous != final:
                shutil.rmtree(previous, ignore_errors=True)
