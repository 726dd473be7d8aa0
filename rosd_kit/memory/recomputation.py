"""Chooses what layers recompute in the backward pass, where `model.gradient_checkpointing` is `auto`: as little as fits.

The choice depends on the recipe and on the free memory of the devices, not on what a run does later.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from rosd_kit.memory.estimate import estimate_memory, format_bytes
from rosd_kit.parallel.ranks import Ranks
from rosd_kit.recipe import Recipe
from rosd_kit.recipe.built import BuiltComponents

Checkpointing = Literal[False, True, "selective"]

#: What may be used of the free memory. The rest is for what no estimate knows: fragments, kernels' buffers, a sleeping server.
_SHARE = 0.85
_NAMES: dict[Checkpointing, str] = {
    False: "nothing",
    "selective": "what is cheap",
    True: "whole layers",
}


@dataclass(frozen=True, kw_only=True)
class Recomputation:
    """A choice: `needed` is the estimate of what training takes on a device, `free` its free memory, both in bytes."""

    checkpointing: Checkpointing
    needed: int
    free: int

    def __str__(self) -> str:
        return (
            f"recomputes {_NAMES[self.checkpointing]}: training takes {format_bytes(self.needed)} of {format_bytes(self.free)}"
        )

    def applied_to(self, recipe: Recipe) -> Recipe:
        """Return the recipe with the choice in place of `auto`."""
        return with_checkpointing(recipe, self.checkpointing)


def choose_recomputation(recipe: Recipe, components: BuiltComponents, *, device: str, ranks: int, free: int) -> Recomputation:
    """Return the first of none, `selective` and whole layers with which training fits; whole layers if none does.

    `free` are the bytes that a device has before the model is loaded. Raises `RunError` if the model's architecture is not
    known on this machine.
    """
    for checkpointing in (False, "selective", True):
        tried = with_checkpointing(recipe, checkpointing)
        needed = estimate_memory(tried, components, device=device, ranks=ranks, device_bytes=free).train
        if needed <= _SHARE * free:
            break
    return Recomputation(checkpointing=checkpointing, needed=needed, free=free)


def recomputation_of(recipe: Recipe, components: BuiltComponents, ranks: Ranks) -> Recomputation | None:
    """Return the choice for a run on these ranks, by the device with the least free memory; None unless it is `auto`."""
    if recipe.model.gradient_checkpointing != "auto":
        return None
    free = min(ranks.gather(free_bytes(ranks)))
    return choose_recomputation(recipe, components, device=ranks.device.type, ranks=ranks.count, free=free)


def with_checkpointing(recipe: Recipe, checkpointing: Checkpointing) -> Recipe:
    """Return the recipe with another `model.gradient_checkpointing`."""
    model = recipe.model.model_copy(update={"gradient_checkpointing": checkpointing})
    return recipe.model_copy(update={"model": model})


def free_bytes(ranks: Ranks) -> int:
    """Return how many bytes this rank's device has left; a machine's memory is shared by its ranks."""
    if ranks.device.type == "cuda":
        return int(torch.cuda.mem_get_info(ranks.device)[0])
    return _available() // ranks.local_count


def _available() -> int:
    """Return the bytes that this machine can give to programs: what Linux says, elsewhere all of its memory."""
    file = Path("/proc/meminfo")
    for line in file.read_text().splitlines() if file.is_file() else ():
        name, _, value = line.partition(":")
        if name == "MemAvailable":
            return int(value.split()[0]) << 10
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
