"""The command that launches an SGLang server for a student. Starts nothing."""

from __future__ import annotations

from pathlib import Path

from rosd_kit.contracts import Policy, Site
from rosd_kit.serving.interpreter import lacking, torch_release
from rosd_kit.serving.launch import Program
from rosd_kit.serving.options import Launch
from rosd_kit.serving.server import Argument, ServerCommand
from rosd_kit.sglang.options import EngineOptions
from rosd_kit.sglang.protocol import NEWEST, OLDEST
from rosd_kit.types import PolicyWeights

PROGRAM = Program(
    engine="SGLang",
    module="sglang",
    words=lambda model: ("-m", "sglang.launch_server", "--model-path", model),
    variable="ROSD_KIT_SGLANG_PYTHON",
    page="docs/sglang.md",
)


def missing_for_launch(options: EngineOptions, *, on_gpu: bool) -> list[str]:
    """Return what keeps the servers' interpreter from working with this trainer, each with its remedy."""
    import torch

    faults = lacking(PROGRAM, options, (OLDEST, NEWEST), on_gpu=on_gpu)
    theirs, ours = torch_release(PROGRAM, options), torch.__version__
    if theirs is not None and options.sync != "disk" and _release(theirs) != _release(ours):
        faults.append(
            f"{PROGRAM.python(options.launch)} has torch {theirs}, the trainer {ours}; rollout.sync={options.sync} needs the "
            "same release on both sides: install it, or set rollout.sync=disk"
        )
    return faults


def _release(version: str) -> list[str]:
    return version.split("+")[0].split(".")[:2]


def launch_commands(
    student: Policy,
    launch: Launch,
    *,
    folder: Path,
    colocated: bool,
    api_key: str | None,
    site: Site | None = None,
    which: PolicyWeights = "live",
) -> list[ServerCommand]:
    """Return one command per server of the rank at `site` that holds these weights; each rank has its own servers.

    Raises `EngineError` if the interpreter has no SGLang, `RecipeError` if the numbers of devices and servers differ.
    """
    arguments, environment = _default_arguments(student, colocated=colocated)
    if colocated and which == "initial":
        arguments["enable_weights_cpu_backup"] = True  # nobody sends them again when the server wakes
    if api_key is not None:
        arguments["api_key"] = api_key
    return PROGRAM.commands(
        student,
        launch,
        folder=folder,
        colocated=colocated,
        arguments=arguments,
        environment=environment,
        site=site,
        which=which,
    )


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
