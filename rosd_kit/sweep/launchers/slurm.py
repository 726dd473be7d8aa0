"""Runs workers as SLURM jobs through submitit. Every node must see the sweep's folder under the same path."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from rosd_kit.errors import RunError
from rosd_kit.sweep.launchers.base import Command, Handle, Launcher, run_and_wait

if TYPE_CHECKING:
    from submitit import Job

_JOBS = 16


class SlurmLauncher(Launcher):
    """Submits each command as a job.

    Options are submitit's parameters without the prefix `slurm_`: `partition=gpu`, `gpus_per_node=1`, `timeout_min=120`. With
    `cluster=local`, jobs run as processes on this machine, which is how the launcher is tested.
    """

    def __init__(self, options: Mapping[str, str]) -> None:
        try:
            import submitit
        except ImportError:
            raise RunError("--launcher slurm: needs submitit: pip install 'rosd-kit[slurm]'") from None
        self._submitit = submitit
        self._cluster = options.get("cluster", "slurm")
        self._options = {name: _number(text) for name, text in options.items() if name != "cluster"}
        self.jobs = _JOBS

    def launch(self, command: Command, slot: int) -> Handle:
        try:
            executor = self._submitit.AutoExecutor(folder=str(command.log.parent / "slurm"), cluster=self._cluster)
            executor.update_parameters(name="rosd-kit", cpus_per_task=command.threads)
            executor.update_parameters(**{self._parameter(name): value for name, value in self._options.items()})
            job = executor.submit(run_and_wait, command.argv, str(command.log), str(command.cwd), command.threads)
        except (NameError, TypeError, ValueError, RuntimeError) as error:
            raise RunError(f"--launcher slurm: {error}. Give options as --launcher-option partition=gpu") from error
        return _JobHandle(job)

    def _parameter(self, option: str) -> str:
        shared = ("timeout_min", "mem_gb", "nodes", "gpus_per_node", "cpus_per_task", "tasks_per_node", "name")
        return option if option in shared else f"slurm_{option}"


class _JobHandle(Handle):
    def __init__(self, job: Job[int]) -> None:
        self._job = job

    def poll(self) -> int | None:
        if not self._job.done():
            return None
        return -9 if self._job.exception() is not None else int(self._job.result())


def _number(text: str) -> int | str:
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 18 else text
