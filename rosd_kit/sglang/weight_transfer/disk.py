"""Weights through files: works for every server that sees the folder, and needs no common interpreter or network."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path

from safetensors.torch import save_file

from rosd_kit.errors import EngineError
from rosd_kit.files import explain_write_errors
from rosd_kit.sglang.client import Client
from rosd_kit.sglang.protocol import ServerFacts
from rosd_kit.sglang.weight_transfer.base import Carrier, WeightSet, buckets
from rosd_kit.sglang.weight_transfer.scratch import Scratch


class DiskCarrier(Carrier):
    """Writes safetensors beside the final name, renames them, and tells the server to load them.

    One set of weights is written once, however many servers load it; the one before is deleted when a new one is there.
    `folder` is the carrier's own, its name begins with `rosd-kit-`, and it goes with the carrier; `describe` writes the
    model's configuration into a folder.
    """

    def __init__(self, folder: Path, describe: Callable[[Path], None]) -> None:
        self._folder = folder
        self._scratch = Scratch(folder)
        self._describe = describe
        self._writing = asyncio.Lock()
        self._bytes = 0

    async def carry(self, weights: WeightSet, client: Client, facts: ServerFacts) -> int:
        async with self._writing:
            place = await asyncio.to_thread(self._written, weights)
        request = {"model_path": str(place), "weight_version": weights.label, "flush_cache": False}
        await client.post("/update_weights_from_disk", request)
        return self._bytes

    async def close(self) -> None:
        self._scratch.close()

    def _written(self, weights: WeightSet) -> Path:
        final = self._folder / f"weights-{weights.label}"
        if not final.is_dir():
            subject, remedy = f"rollout.sync_dir: {self._folder}", "Name a folder with room for two sets of weights."
            with explain_write_errors(subject, remedy, EngineError):
                self._write(weights, final)
        return final

    def _write(self, weights: WeightSet, final: Path) -> None:
        aside = self._scratch.open() / f"weights-{weights.label}.part"
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir()
        self._describe(aside)
        self._bytes = 0
        for number, bucket in enumerate(buckets(weights.tensors()), start=1):
            found = {name: tensor.cpu().contiguous() for name, tensor in bucket}
            save_file(found, aside / f"model-{number:05d}.safetensors", metadata={"format": "pt"})
            self._bytes += sum(tensor.nbytes for tensor in found.values())
        aside.rename(final)
        for other in self._folder.glob("weights-*"):
            if other != final:
                shutil.rmtree(other, ignore_errors=True)
