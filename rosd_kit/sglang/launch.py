"""From a student and a recipe's options to the commands that launch its servers."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from rosd_kit.contracts import Policy, Site
from rosd_kit.errors import EngineError, RecipeError
from rosd_kit.sglang.options import Launch
from rosd_kit.sglang.server import Argument, Command, free_port, has_sglang


def launch_commands(
    student: Policy, launch: Launch, *, folder: Path, colocated: bool, api_key: str | None, site: Site | None = None
) -> list[Command]:
    """Return one command a server of the process at a site; each process has servers of its own.

    Raises `EngineError` where the interpreter has no SGLang, `RecipeError` where devices and servers do not match.
    """
    python = launch.python or sys.executable
    if not has_sglang(python, launch.env):
        raise EngineError(
            f"rollout.launch.python: {python} has no SGLang. Install sglang there, name an interpreter that has it "
            "(rollout.launch.python=...), or give the address of a running server (rollout.url=...). See docs/sglang.md."
        )
    site = site or Site()
    first, everyone = site.local * launch.servers, site.neighbours * launch.servers
    if launch.devices and len(launch.devices) != everyone:
        raise RecipeError(
            f"rollout.launch.devices: {len(launch.devices)} entries for {everyone} servers. Give one each, or none."
        )
    arguments, environment = _defaults(student, colocated=colocated)
    if api_key is not None:
        arguments["api_key"] = api_key
    model = _model_path(student, folder)
    return [
        Command(
            python=python,
            model=model,
            host=launch.host,
            port=launch.port + number if launch.port else free_port(launch.host),
            arguments={**arguments, **launch.args},
            environment={**environment, **_visible(launch, number, student, colocated=colocated), **launch.env},
        )
        for number in range(first, first + launch.servers)
    ]


def _visible(launch: Launch, number: int, student: Policy, *, colocated: bool) -> dict[str, str]:
    """Return which devices a server sees: those named for it, or the one that it shares with its process of several."""
    if launch.devices:
        return {"CUDA_VISIBLE_DEVICES": launch.devices[number]}
    index = student.device.index
    if not colocated or not index:
        return {}
    seen = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    return {"CUDA_VISIBLE_DEVICES": seen[index] if seen else str(index)}


def _model_path(student: Policy, folder: Path) -> str:
    """Return where a server finds the architecture; the weights are brought to it in any case."""
    if student.folder is not None and student.settings.gguf is None and not student.settings.pickle_weights:
        return str(student.folder)
    student.export(folder / "sglang-model")
    return str(folder / "sglang-model")


def _defaults(student: Policy, *, colocated: bool) -> tuple[dict[str, Argument], dict[str, str]]:
    """Return arguments and environment of a server for this student; a recipe's own come on top."""
    arguments: dict[str, Argument] = {"dtype": student.settings.dtype, "skip_server_warmup": True}
    if colocated:
        arguments["enable_memory_saver"] = True
    if student.settings.trust_remote_code:
        arguments["trust_remote_code"] = True
    if student.settings.trust_remote_code:
        arguments["trust_remote_code"] = True
    if student.device.type != "cpu":
        return arguments, {}
    on_cpu: dict[str, Argument] = {
        "device": "cpu",
        "attention_backend": "torch_native",
        "disable_overlap_schedule": True,
        "mem_fraction_static": 0.1,
        "max_total_tokens": 32768,
        "sleep_on_idle": True,  # or an idle server keeps a core busy
    }
    return {**arguments, **on_cpu}, {"SGLANG_USE_CPU_ENGINE": "1"}
