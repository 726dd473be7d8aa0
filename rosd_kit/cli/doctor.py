"""`rosd-kit doctor`: reports what is installed, what each profile lacks here, and whether every shipped recipe loads."""

from __future__ import annotations

import logging
import os
import platform
import subprocess
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import TYPE_CHECKING, Annotated

import typer

from rosd_kit.cli import completion
from rosd_kit.cli.common import Overrides, PluginFiles, Profile, TrustRecipe, load, load_plugins
from rosd_kit.errors import RosdError
from rosd_kit.run.trackers import missing as missing_tracker

if TYPE_CHECKING:
    from rosd_kit.memory.estimate import MemoryEstimate
    from rosd_kit.plugins.manager import PluginManager
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

#: The module that an attention implementation needs, and the package that it comes with.
_FLASH_ATTENTION = {
    "flash_attention_2": ("flash_attn", "flash-attn"),
    "flash_attention_3": ("flash_attn_interface", "flash-attn-3"),
}
#: What an A100 or H100 with 80 GB offers to tensors.
_NO_GPU = 79 << 30


def doctor(
    context: typer.Context,
    recipe: Annotated[
        str | None,
        typer.Argument(
            metavar="RECIPE",
            help="Report what this recipe lacks here and how much memory it needs.",
            autocompletion=completion.recipes,
        ),
    ] = None,
    overrides: Overrides = None,
    profile: Profile = None,
    plugin: PluginFiles = None,
    trust_recipe: TrustRecipe = False,
) -> None:
    """Report what is installed and what is missing.

    Reports versions, devices, what each profile lacks, and whether the recipes load; exits with 1 if one does not. For a
    recipe: what it lacks and how much memory a device needs; exits with 1 if that is more than there is.
    """
    manager = load_plugins(context, plugin, warn=False, recipe=recipe)
    if recipe is not None:
        if not _examined(load(manager, recipe, overrides, profile, trust=trust_recipe).recipe, manager):
            raise typer.Exit(1)
        return
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


def _examined(recipe: Recipe, manager: PluginManager) -> bool:
    """Print what a recipe lacks here and how much memory it needs; return whether it fits."""
    from rich.console import Console
    from rich.table import Table

    from rosd_kit.memory import estimate_memory
    from rosd_kit.memory.estimate import format_bytes, table_rows
    from rosd_kit.memory.recomputation import choose_recomputation
    from rosd_kit.recipe import build_components

    print(f"{recipe.name} with {recipe.model.path}: {'; '.join(missing_for(recipe, manager)) or 'ready'}")
    kind, size, said = _device(recipe)
    processes = recipe.parallel.processes or 1
    components = build_components(recipe, manager.registry)
    with _without_noise():
        if recipe.model.gradient_checkpointing == "auto":
            choice = choose_recomputation(recipe, components, device=kind, ranks=processes, free=size)
            print(f"model.gradient_checkpointing=auto {choice}")
            recipe = choice.applied_to(recipe)
        found = estimate_memory(recipe, components, device=kind, ranks=processes, device_bytes=size)
    lines = Table(box=None, pad_edge=False, header_style="bold")
    for title, side in (("memory", "left"), ("training", "right"), ("sampling", "right"), ("", "left")):
        lines.add_column(title, justify=side)  # type: ignore[arg-type]
    for row in table_rows(found):
        lines.add_row(*row)
    Console(highlight=False, soft_wrap=True).print(lines)
    verdict = "fits" if found.peak <= size else f"does not fit: {_remedy(found)}"
    if found.wake or found.transfer:
        waking = f"waking the servers {format_bytes(found.wake)}, sending them weights {format_bytes(found.transfer)}"
        print(f"{waking}: the trainer's weights, copies and optimizer, gathered weights, the server's weights, a bucket")
    print(f"{format_bytes(found.peak)} of {format_bytes(size)} ({said}): {verdict}")
    return found.peak <= size


@contextmanager
def _without_noise() -> Iterator[None]:
    """Keep what libraries log and warn about while a model is built out of the report: none of it is about the recipe."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)


def _remedy(found: MemoryEstimate) -> str:
    """Return what to change so that the phase that needs most memory needs less."""
    if found.train == found.peak:
        return "lower batch.tokens, use model.lora or model.gradient_checkpointing=true"
    if found.server:
        return (
            "lower rollout.launch.args.mem_fraction_static, train on more devices, use model.lora, or give the servers GPUs of "
            "their own (rollout.colocated=false)"
        )
    return "lower sampling.max_new_tokens or problems_per_step, or use model.lora"


def _device(recipe: Recipe) -> tuple[str, int, str]:
    """Return the kind of device that a recipe runs on, its memory in bytes, and its name."""
    import torch

    if torch.cuda.is_available() and recipe.model.device != "cpu":
        properties = torch.cuda.get_device_properties(0)
        return "cuda", int(properties.total_memory), properties.name
    if recipe.model.device == "cuda":
        return "cuda", _NO_GPU, "no GPU here; assuming one with 80 GB"
    return "cpu", os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), "this machine"


def missing_for(recipe: Recipe, manager: PluginManager) -> list[str]:
    """Return what this machine lacks for a recipe, each with its remedy; empty if it is ready."""
    import torch

    from rosd_kit.contracts import RolloutEngine
    from rosd_kit.model.loading import local_folder
    from rosd_kit.model.micro.model import BLANKS, EMBEDDED

    engine = manager.registry.get("rollout", recipe.rollout.name)
    assert issubclass(engine, RolloutEngine)
    model, missing = recipe.model, []
    gpu = torch.cuda.is_available()
    if model.device == "cuda" and not gpu:
        missing.append("needs a CUDA GPU and there is none (set model.device=cpu to run without)")
    elif model.path not in EMBEDDED and model.path not in BLANKS and not gpu and recipe.model.device != "cpu":
        missing.append(f"no GPU: {model.path} on the CPU is very slow")
    if model.lora is not None and find_spec("peft") is None:
        missing.append("needs peft: pip install 'rosd-kit[lora]'")
    if (module := _FLASH_ATTENTION.get(model.attention)) and find_spec(module[0]) is None:
        missing.append(f"needs {module[1]}, or model.attention=sdpa")
    if recipe.optimizer.name == "adamw8bit" and find_spec("bitsandbytes") is None:
        missing.append("needs bitsandbytes: pip install 'rosd-kit[8bit]'")
    if model.gguf is not None and find_spec("gguf") is None:
        missing.append("needs gguf: pip install 'rosd-kit[gguf]'")
    missing.extend(engine.missing(recipe.rollout.options, on_gpu=gpu and model.device != "cpu"))
    try:
        if local_folder(model) is None and model.path != "micro-blank" and not _is_cached(model.path, model.revision):
            missing.append(f"{model.path} is not on this machine yet; the first run fetches it from the hub")
    except RosdError as error:
        missing.append(str(error).splitlines()[0])
    missing.extend(fault for name in recipe.tracking.to if (fault := missing_tracker(name)))
    return missing


def _profiles(manager: PluginManager) -> dict[str, list[str]]:
    from rosd_kit.recipe import load_recipe, shipped_names

    findings = {}
    for profile in shipped_names("profiles"):
        try:
            findings[profile] = missing_for(load_recipe("rosd", profile=profile, registry=manager.registry), manager)
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
    driver = _driver()
    if torch.cuda.is_available():
        return [*lines, f"driver {driver or 'not known'}, torch built for CUDA {torch.version.cuda}"]
    if driver is None:
        return [*lines, "cuda: none"]
    built = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "built for CPUs"
    return [*lines, f"cuda: torch, {built}, sees no GPU, though driver {driver} does: install a torch built for this driver"]


def _driver() -> str | None:
    """Return the version of the NVIDIA driver, or None if there is none."""
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.split()[0] if done.returncode == 0 and done.stdout.split() else None


def _is_cached(model: str, revision: str | None) -> bool:
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        return isinstance(try_to_load_from_cache(model, "config.json", revision=revision), str)
    except HFValidationError:
        return False


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
