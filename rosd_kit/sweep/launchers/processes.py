"""Runs workers as processes on this machine. With GPUs, slots take turns over them."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping

from rosd_kit.sweep.launchers.base import Command, Handle, Launcher, refuse_options, start


class ProcessLauncher(Launcher):
    """Starts each command as a process; each slot sees one GPU."""

    def __init__(self, options: Mapping[str, str]) -> None:
        refuse_options("processes", options)
        self._gpus = visible_gpus()
        self.jobs = max(1, len(self._gpus))

    def launch(self, command: Command, slot: int) -> Handle:
        extra = {"CUDA_VISIBLE_DEVICES": self._gpus[slot % len(self._gpus)]} if command.gpu and self._gpus else {}
        return _ProcessHandle(start(command, extra))


class _ProcessHandle(Handle):
    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    def poll(self) -> int | None:
        return self._process.poll()


def visible_gpus() -> list[str]:
    """Return the GPUs that this process may use, as names for CUDA_VISIBLE_DEVICES."""
    import torch

    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name for name in visible.split(",") if name][: torch.cuda.device_count()]
    return [str(index) for index in range(torch.cuda.device_count())]
