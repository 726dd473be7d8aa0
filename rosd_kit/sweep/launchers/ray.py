"""Runs workers on a Ray cluster: the one RAY_ADDRESS names or that runs locally, else a new one on this machine.

Every node needs rosd-kit and must see the sweep's folder under the same path.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

from rosd_kit.errors import RunError
from rosd_kit.sweep.launchers.base import Command, Handle, Launcher, refuse_options, run_and_wait

if TYPE_CHECKING:
    from ray import ObjectRef


class RayLauncher(Launcher):
    """Starts each command as a Ray task that requests the command's threads as CPUs, and one GPU if the cluster has any."""

    def __init__(self, options: Mapping[str, str]) -> None:
        refuse_options("ray", options)
        try:
            ray = import_module("ray")
        except ImportError:
            raise RunError("--launcher ray: needs Ray: pip install 'rosd-kit[ray]'") from None
        self._ray = ray
        self._started_here = not ray.is_initialized()
        if self._started_here:
            ray.init(log_to_driver=False, include_dashboard=False, logging_level=logging.WARNING)
        resources = ray.cluster_resources()
        self._gpus = int(resources.get("GPU", 0))
        self.jobs = max(1, self._gpus or int(resources.get("CPU", 1)))

    def launch(self, command: Command, slot: int) -> Handle:
        remote = self._ray.remote(run_and_wait).options(
            num_cpus=command.threads, num_gpus=int(command.gpu and self._gpus > 0), max_retries=0
        )
        return _RayHandle(self._ray, remote.remote(command.argv, str(command.log), str(command.cwd), command.threads))

    def close(self) -> None:
        if self._started_here:
            self._ray.shutdown()


class _RayHandle(Handle):
    def __init__(self, ray: ModuleType, reference: ObjectRef[int]) -> None:
        self._ray, self._reference = ray, reference

    def poll(self) -> int | None:
        done, _ = self._ray.wait([self._reference], timeout=0)
        if not done:
            return None
        try:
            return int(self._ray.get(self._reference))
        except self._ray.exceptions.RayError:  # its Ray worker or node is gone
            return -9
