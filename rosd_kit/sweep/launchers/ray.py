"""A Ray cluster: the one that RAY_ADDRESS or a running local cluster names, else one of this machine for the sweep's time.

Every node must see the sweep's folder under the same path and have rosd-kit installed.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from importlib import import_module
from typing import Any

from rosd_kit.errors import RunError
from rosd_kit.sweep.launchers.base import Command, Handle, Launcher, refuse_options, run_to_its_end


class Ray(Launcher):
    """Starts every command as a Ray task, which asks for the command's threads as CPUs and for a GPU where there are any."""

    def __init__(self, options: Mapping[str, str]) -> None:
        refuse_options("ray", options)
        try:
            ray: Any = import_module("ray")  # its types are partly missing
        except ImportError:
            raise RunError("--launcher ray: needs Ray: pip install 'rosd-kit[ray]'") from None
        self._ray = ray
        self._begun = not ray.is_initialized()
        if self._begun:
            ray.init(log_to_driver=False, include_dashboard=False, logging_level=logging.WARNING)
        total = ray.cluster_resources()
        self._gpus = int(total.get("GPU", 0))
        self.jobs = max(1, self._gpus or int(total.get("CPU", 1)))

    def launch(self, task: Command, slot: int) -> Handle:
        remote = self._ray.remote(run_to_its_end).options(
            num_cpus=task.threads, num_gpus=int(task.gpu and self._gpus > 0), max_retries=0
        )
        return _Remote(self._ray, remote.remote(task.command, str(task.log), str(task.cwd), task.threads))

    def close(self) -> None:
        if self._begun:
            self._ray.shutdown()


class _Remote(Handle):
    def __init__(self, ray: Any, reference: Any) -> None:
        self._ray, self._reference = ray, reference

    def poll(self) -> int | None:
        done, _ = self._ray.wait([self._reference], timeout=0)
        if not done:
            return None
        try:
            return int(self._ray.get(self._reference))
        except self._ray.exceptions.RayError:  # its worker or node is gone
            return -9
