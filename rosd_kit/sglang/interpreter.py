"""Asks the interpreter that is to run SGLang servers what it has, without importing any of it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from functools import cache

from packaging.version import InvalidVersion, Version

from rosd_kit.serving.server import server_environment
from rosd_kit.sglang.options import EngineOptions
from rosd_kit.sglang.protocol import NEWEST, OLDEST

_PACKAGES = ("sglang", "torch", "transformers")
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


def installed(python: str, environment: Mapping[str, str]) -> dict[str, str] | str:
    """Return the versions of SGLang, torch and transformers that an interpreter has, or why it cannot be asked."""
    return _installed(python, tuple(sorted(environment.items())))


@cache
def _installed(python: str, environment: tuple[tuple[str, str], ...]) -> dict[str, str] | str:
    try:
        done = subprocess.run(
            [python, "-c", _CODE, *_PACKAGES],
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


def lacking(options: EngineOptions, python: str, *, torch_version: str, on_gpu: bool) -> list[str]:
    """Return what keeps servers of this interpreter from working with a trainer of this torch, each with its remedy."""
    found = installed(python, options.launch.env)
    remedy = "name one that has it with rollout.launch.python or ROSD_KIT_SGLANG_PYTHON (docs/sglang.md)"
    if isinstance(found, str):
        return [f"SGLang's interpreter {python} {found}; {remedy}"]
    if "sglang" not in found:
        return [f"{python} has no SGLang; {remedy}"]
    faults = []
    if not options.any_version and not _is_tested(found["sglang"]):
        faults.append(f"{python} has SGLang {found['sglang']}; this client was tested with {OLDEST} to {NEWEST}")
    theirs = found.get("torch", "none")
    if on_gpu and theirs.endswith("+cpu"):
        faults.append(f"{python} has torch {theirs}, which knows no GPU; install SGLang's own build there")
    if options.sync != "disk" and _release(theirs) != _release(torch_version):
        faults.append(
            f"{python} has torch {theirs}, the trainer {torch_version}; rollout.sync={options.sync} needs the same release on "
            "both sides: install it, or set rollout.sync=disk"
        )
    return faults


def _is_tested(version: str) -> bool:
    try:
        return OLDEST <= Version(version) <= NEWEST
    except InvalidVersion:
        return False


def _release(version: str) -> list[str]:
    return version.split("+")[0].split(".")[:2]
