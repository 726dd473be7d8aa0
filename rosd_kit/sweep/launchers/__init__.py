"""Launchers run workers somewhere: each starts commands and reports their exit codes. Results go through the store."""

from __future__ import annotations

from collections.abc import Mapping

from rosd_kit.errors import RunError, did_you_mean
from rosd_kit.sweep.launchers.base import Command, Handle, Launcher

__all__ = ["LAUNCHERS", "Command", "Handle", "Launcher", "make_launcher"]
LAUNCHERS = ("processes", "ray", "slurm")


def make_launcher(name: str, options: Mapping[str, str]) -> Launcher:
    """Return a launcher. Raises `RunError` for an unknown name, invalid options, or a missing dependency."""
    if name == "processes":
        from rosd_kit.sweep.launchers.processes import ProcessLauncher

        return ProcessLauncher(options)
    if name == "ray":
        from rosd_kit.sweep.launchers.ray import RayLauncher

        return RayLauncher(options)
    if name == "slurm":
        from rosd_kit.sweep.launchers.slurm import SlurmLauncher

        return SlurmLauncher(options)
    raise RunError(f"--launcher: unknown {name!r}.{did_you_mean(name, LAUNCHERS)} Known: {', '.join(LAUNCHERS)}")
