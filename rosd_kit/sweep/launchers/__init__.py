"""Launchers: where a trial's process runs. Each starts a command and says when it ended; the store says what came of it."""

from __future__ import annotations

from collections.abc import Mapping

from rosd_kit.errors import RunError, did_you_mean
from rosd_kit.sweep.launchers.base import Command, Handle, Launcher

__all__ = ["LAUNCHERS", "Command", "Handle", "Launcher", "make_launcher"]
LAUNCHERS = ("processes", "ray", "slurm")


def make_launcher(name: str, options: Mapping[str, str]) -> Launcher:
    """Return a launcher. Raises `RunError` for an unknown one, its options, or what it needs and is not installed."""
    if name == "processes":
        from rosd_kit.sweep.launchers.processes import Processes

        return Processes(options)
    if name == "ray":
        from rosd_kit.sweep.launchers.ray import Ray

        return Ray(options)
    if name == "slurm":
        from rosd_kit.sweep.launchers.slurm import Slurm

        return Slurm(options)
    raise RunError(f"--launcher: unknown {name!r}.{did_you_mean(name, LAUNCHERS)} Known: {', '.join(LAUNCHERS)}")
