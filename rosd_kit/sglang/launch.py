"""Builds the commands that launch SGLang servers for a student. Starts nothing."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from rosd_kit.contracts import Policy, Site
from rosd_kit.errors import EngineError, RecipeError
from rosd_kit.sglang.options import Launch
from rosd_kit.sglang.server import Argument, ServerCommand, free_port, has_sglang

#: Names the interpreter that has SGLang, where a recipe does not.
PYTHON_VARIABLE = "ROSD_KIT_SGLANG_PYTHON"


def server_python(launch: Launch) -> str:
    """Return the interpreter that runs the servers: the recipe's, else the environment's, else this process's own."""
    return launch.python or os.environ.get(PYTHON_VARIABLE) or sys.executable


def launch_commands(
    student: Policy, launch: Launch, *, folder: Path, colocated: bool, api_key: str | None, site: Site | None = None
) -> list[ServerCommand]:
    """Return one command per server of the rank at `site`; each rank has its own servers.

    Raises `EngineError` if the interpreter has no SGLang, `RecipeError` if the numbers of devices and servers differ.
    """
    python = server_python(launch)
    if not has_sglang(python, launch.env):
        raise EngineError(
            f"rollout.launch.python: {python} has no SGLang. Install sglang there, name an interpreter that has it "
            f"(rollout.launch.python=..., or the environment variable {PYTHON_VARIABLE}), or give the address of a running "
            "server (rollout.url=...). See docs/sglang.md."
        )
    site = site or Site()
    first, on_this_machine = site.local * launch.servers, site.neighbours * launch.servers
    if launch.devices and len(launch.devices) != on_this_machine:
        raise RecipeError(
            f"rollout.launch.devices: {len(launch.devices)} entries for {on_this_machine} servers. Give one each, or none."
        )
    arguments, environment = _default_arguments(student, colocated=colocated)
    if api_key is not None:
        arguments["api_key"] = api_key
    model = _model_path(student, folder)
    return [
        ServerCommand(
            python=python,
            model=model,
            host=launch.host,
            port=launch.port + index if launch.port else free_port(launch.host),
            arguments={**arguments, **launch.args},
            environment={**environment, **_visible_devices(launch, index, student, colocated=colocated), **launch.env},
        )
        for index in range(first, first + launch.servers)
    ]


def _visible_devices(launch: Launch, index: int, student: Policy, *, colocated: bool) -> dict[str, str]:
    """Return CUDA_VISIBLE_DEVICES of a server: its entry of `devices`, or the GPU that a colocated server shares."""
    if launch.devices:
        return {"CUDA_VISIBLE_DEVICES": launch.devices[index]}
    device = student.device.index
    if not colocated or not device:
        return {}
    visible = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    return {"CUDA_VISIBLE_DEVICES": visible[device] if visible else str(device)}


def _model_path(student: Policy, folder: Path) -> str:
    """Return a folder with the architecture that the server can load; the weights are sent to it in any case."""
    saved, options = student.folder, student.settings
    if saved is not None and options.gguf is None and not options.pickle_weights and not _was_untied(student, saved):
        return str(saved)
    student.export(folder / "sglang-model")
    return str(folder / "sglang-model")


def _was_untied(student: Policy, folder: Path) -> bool:
    """Return whether the head has got a weight of its own since the model was loaded, because an adapter acts on it."""
    if not hasattr(student.model, "peft_config") or student.model.config.get_text_config().tie_word_embeddings:
        return False
    from transformers import AutoConfig

    saved = AutoConfig.from_pretrained(folder, trust_remote_code=student.settings.trust_remote_code)
    return bool(saved.get_text_config().tie_word_embeddings)


def _default_arguments(student: Policy, *, colocated: bool) -> tuple[dict[str, Argument], dict[str, str]]:
    """Return arguments and environment of a server for this student; those of the recipe override them."""
    arguments: dict[str, Argument] = {"dtype": student.settings.dtype, "skip_server_warmup": True}
    if colocated:
        arguments["enable_memory_saver"] = True
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
