"""The doctor: what is installed, what each profile would miss here, and whether every shipped recipe loads."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from rosd_kit.cli.common import PluginFiles, load_plugins
from rosd_kit.errors import RosdError
from rosd_kit.observers.trackers import missing as missing_tracker

if TYPE_CHECKING:
    from rosd_kit.plugins import PluginManager
    from rosd_kit.recipe import Recipe

PACKAGES = (
    "rosd-kit",
    "torch",
    "transformers",
    "accelerate",
    "safetensors",
    "pluggy",
    "omegaconf",
    "pydantic",
    "evaluate",
    "rapidfuzz",
    "peft",
)


def doctor(context: typer.Context, plugin: PluginFiles = None) -> None:
    """Say what is installed and what is missing.

    Tells versions, devices, what each profile lacks, and whether the recipes load; exits with 1 if one does not.
    """
    manager = load_plugins(context, plugin, warn=False)
    print(f"python {platform.python_version()} on {platform.system()} {platform.machine()}")
    print("\n".join(f"{package} {_version(package)}" for package in PACKAGES))
    print("\n".join(_devices()))
    for profile, missing in _profiles(manager).items():
        print(f"profile {profile}: {'ready' if not missing else '; '.join(missing)}")
    for report in manager.broken:
        print(f"plugin {report}: left out: {report.reason}")
    faults = _broken_recipes(manager)
    print("\n".join(faults) if faults else "recipes: all shipped recipes load")
    if faults:
        raise typer.Exit(1)


def missing_for(recipe: Recipe) -> list[str]:
    """Return what this machine lacks for a recipe, each with the remedy; empty when it is ready."""
    import torch

    model, missing = recipe.model, []
    gpu = torch.cuda.is_available()
    if model.device == "cuda" and not gpu:
        missing.append("needs a CUDA GPU and there is none (set model.device=cpu to do without)")
    elif model.path != "micro" and not gpu:
        missing.append(f"no GPU: {model.path} on the CPU is very slow")
    if model.lora is not None and find_spec("peft") is None:
        missing.append("needs peft: pip install 'rosd-kit[lora]'")
    if model.attention == "flash_attention_2" and find_spec("flash_attn") is None:
        missing.append("needs flash-attn, or model.attention=sdpa")
    if model.path != "micro" and not Path(model.path).exists() and not _is_cached(model.path):
        missing.append(f"{model.path} is not on this machine yet; the first run fetches it from the hub")
    missing.extend(fault for name in recipe.tracking.to if (fault := missing_tracker(name)))
    return missing


def _profiles(manager: PluginManager) -> dict[str, list[str]]:
    from rosd_kit.recipe import load_recipe, shipped_names

    findings = {}
    for profile in shipped_names("profiles"):
        try:
            findings[profile] = missing_for(load_recipe("rosd", profile=profile, registry=manager.registry))
        except RosdError as error:
            findings[profile] = [str(error)]
    return findings


def _broken_recipes(manager: PluginManager) -> list[str]:
    from rosd_kit.recipe import load_recipe, shipped_names

    faults = []
    for name in shipped_names():
        try:
            load_recipe(name, registry=manager.registry)
        except RosdError as error:
            faults.append(f"recipe {name}: {error}")
    return faults


def _devices() -> list[str]:
    import torch

    lines = [f"cpu: {os.cpu_count()} cores, torch uses {torch.get_num_threads()} threads"]
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        lines.append(f"cuda:{index}: {properties.name}, {properties.total_memory / 2**30:.0f} GiB")
    return lines if torch.cuda.is_available() else [*lines, "cuda: none"]


def _is_cached(model: str) -> bool:
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        return isinstance(try_to_load_from_cache(model, "config.json"), str)
    except HFValidationError:
        return False


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
