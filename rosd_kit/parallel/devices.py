"""Tells threads which GPU their rank has, and gives cached memory of that GPU back. Does nothing without one."""

from __future__ import annotations

import gc
from collections.abc import Callable

import torch


def use_in_this_thread(device: torch.device) -> None:
    """Make a rank's GPU the current one of the calling thread.

    A new thread starts on device 0, and whatever does not name its device there takes half a gigabyte of it for a context.
    """
    if device.type == "cuda":
        torch.cuda.set_device(device)


def same_device() -> Callable[[], None]:
    """Return what makes the calling thread's present GPU the current one of another thread."""
    if not (torch.cuda.is_available() and torch.cuda.is_initialized()):  # type: ignore[no-untyped-call]
        return lambda: None
    device = torch.device("cuda", torch.cuda.current_device())
    return lambda: use_in_this_thread(device)


def free_cached_memory() -> None:
    """Return to the system what torch keeps of the GPU's memory for later, and what other processes no longer map."""
    if torch.cuda.is_available() and torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        gc.collect()
        torch.cuda.ipc_collect()  # type: ignore[no-untyped-call]
        torch.cuda.empty_cache()
