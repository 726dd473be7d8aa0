"""Asks the interpreter that is to run servers what it has, without importing any of it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from functools import cache

from packaging.version import InvalidVersion, Version

from rosd_kit.serving.launch import Program
from rosd_kit.serving.options import ServedOptions
from rosd_kit.serving.server import server_environment

_CODE = (
    "import json, sys\n"
    "from importlib.metadata import PackageNotFoundError, version\n"
    "found = {}\n"
    "for name in sys.argv[1:]:\n"
    "    try:\n"
    "        found[name] = version(name)\n"
    "    except PackageNotFoundError:\n"
    "        pass\n"
    "print(json.dumps(found))\n"
)


def installed(package: str, python: str, environment: Mapping[str, str]) -> dict[str, str] | str:
    """Return the versions of the server's package and of torch that an interpreter has, or why it cannot be asked."""
    return _installed(package, python, tuple(sorted(environment.items())))


@cache
def _installed(package: str, python: str, environment: tuple[tuple[str, str], ...]) -> dict[str, str] | str:
    try:
        done = subprocess.run(
            [python, "-c", _CODE, package, "torch"],
            capture_output=True,
            text=True,
            timeout=60,
            env=server_environment(dict(environment)),
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"cannot be run: {error}"
    if done.returncode:
        return f"cannot be run: {(done.stderr.strip().splitlines() or ['no reason given'])[-1]}"
    return dict(json.loads(done.stdout))


def lacking(program: Program, options: ServedOptions, tested: tuple[Version, Version], *, on_gpu: bool) -> list[str]:
    """Return what keeps servers of the interpreter in use from working, each with its remedy.

    `tested` are the oldest and the newest version of the server that its client was tested with.
    """
    python = program.python(options.launch)
    found = installed(program.module, python, options.launch.env)
    remedy = f"name one that has it with rollout.launch.python or {program.variable} ({program.page})"
    if isinstance(found, str):
        return [f"{program.engine}'s interpreter {python} {found}; {remedy}"]
    if program.module not in found:
        return [f"{python} has no {program.engine}; {remedy}"]
    faults, (oldest, newest) = [], tested
    if not options.any_version and not _is_between(oldest, found[program.module], newest):
        has = f"{python} has {program.engine} {found[program.module]}"
        faults.append(f"{has}; this client was tested with {oldest} to {newest}")
    torch = found.get("torch", "none")
    if on_gpu and torch.endswith("+cpu"):
        faults.append(f"{python} has torch {torch}, which knows no GPU; install {program.engine}'s own build there")
    return faults


def torch_release(program: Program, options: ServedOptions) -> str | None:
    """Return the version of torch that the interpreter in use has, or None if it cannot be asked."""
    found = installed(program.module, program.python(options.launch), options.launch.env)
    return None if isinstance(found, str) else found.get("torch")


def _is_between(oldest: Version, version: str, newest: Version) -> bool:
    try:
        return oldest <= Version(Version(version).base_version) <= newest
    except InvalidVersion:
        return False
