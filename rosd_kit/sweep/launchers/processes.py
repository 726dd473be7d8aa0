"""Processes of this machine. Where there are GPUs, each place has its own, in turns."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping

from rosd_kit.sweep.launchers.base import Command, Handle, Launcher, refuse_options, start


class Processes(Launcher):
    """Starts every command as a process of its own."""

    def __init__(self, options: Mapping[str, str]) -> None:
        refuse_options("processes", options)
        self._gpus = gpus()
        self.jobs = max(1, len(self._gpus))

    def launch(self, task: Command, slot: int) -> Handle:
        extra = {"CUDA_VISIBLE_DEVICES": self._gpus[slot % len(self._gpus)]} if task.gpu and self._gpus else {}
        return _Started(start(task, extra))


class _Started(Handle):
    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    def poll(self) -> int | None:
        return self._process.poll()


def gpus() -> list[str]:
    """Return the GPUs that this process may use, by the names that CUDA_VISIBLE_DEVICES takes."""
    import torch

    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name for name in visible.split(",") if name][: torch.cuda.device_count()]
    return [str(index) for index in range(torch.cuda.device_count())]
