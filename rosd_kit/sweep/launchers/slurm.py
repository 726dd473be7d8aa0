"""SLURM, by submitit: every trial is a job. Nodes must see the sweep's folder under the same path."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rosd_kit.errors import RunError
from rosd_kit.sweep.launchers.base import Command, Handle, Launcher, run_to_its_end

_JOBS = 16


class Slurm(Launcher):
    """Submits every command as a job.

    Options are submitit's parameters without `slurm_`: `partition=gpu`, `gpus_per_node=1`, `timeout_min=120`; `cluster=local`
    runs the jobs as processes of this machine, by which the launcher is tested.
    """

    def __init__(self, options: Mapping[str, str]) -> None:
        try:
            import submitit
        except ImportError:
            raise RunError("--launcher slurm: needs submitit: pip install 'rosd-kit[slurm]'") from None
        self._submitit: Any = submitit
        self._cluster = options.get("cluster", "slurm")
        self._options = {name: _number(text) for name, text in options.items() if name != "cluster"}
        self.jobs = _JOBS

    def launch(self, task: Command, slot: int) -> Handle:
        try:
            executor = self._submitit.AutoExecutor(folder=str(task.log.parent / "slurm"), cluster=self._cluster)
            executor.update_parameters(name="rosd-kit", cpus_per_task=task.threads)
            executor.update_parameters(**{self._name(name): value for name, value in self._options.items()})
            return _Job(executor.submit(run_to_its_end, task.command, str(task.log), str(task.cwd), task.threads))
        except (NameError, TypeError, ValueError, RuntimeError) as error:
            raise RunError(f"--launcher slurm: {error}. Options are given as --launcher-option partition=gpu") from error

    def _name(self, option: str) -> str:
        known = ("timeout_min", "mem_gb", "nodes", "gpus_per_node", "cpus_per_task", "tasks_per_node", "name")
        return option if option in known else f"slurm_{option}"


class _Job(Handle):
    def __init__(self, job: Any) -> None:
        self._job = job

    def poll(self) -> int | None:
        if not self._job.done():
            return None
        return -9 if self._job.exception() is not None else int(self._job.result())


def _number(text: str) -> int | str:
    return int(text) if text.isdigit() else text
