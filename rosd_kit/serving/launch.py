"""Builds the commands that launch servers for a student, whichever server it is. Starts nothing."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rosd_kit.contracts import Policy, Site
from rosd_kit.errors import EngineError, RecipeError
from rosd_kit.serving.options import Launch
from rosd_kit.serving.server import Argument, ServerCommand, free_port, has_module
from rosd_kit.types import PolicyWeights


@dataclass(frozen=True, kw_only=True)
class Program:
    """How a server is started: `module` is what its interpreter needs, `words` start it for a model folder.

    `variable` names the environment variable with the path of that interpreter; `page` is the documentation.
    """

    engine: str
    module: str
    words: Callable[[str], Sequence[str]]
    variable: str
    page: str

    def python(self, launch: Launch) -> str:
        """Return the interpreter that runs the servers: the recipe's, else the environment's, else this process's own."""
        return launch.python or os.environ.get(self.variable) or sys.executable

    def commands(
        self,
        student: Policy,
        launch: Launch,
        *,
        folder: Path,
        colocated: bool,
        arguments: Mapping[str, Argument],
        environment: Mapping[str, str],
        site: Site | None = None,
        which: PolicyWeights = "live",
    ) -> list[ServerCommand]:
        """Return one command per server of the rank at `site` that holds these weights; each rank has its own servers.

        `arguments` and `environment` are the engine's defaults, which the recipe's override. Raises `EngineError` if the
        interpreter lacks the server, `RecipeError` if the numbers of devices and servers differ.
        """
        python = self.python(launch)
        if not has_module(python, self.module, launch.env):
            raise EngineError(
                f"rollout.launch.python: {python} has no {self.engine}. Install {self.module} there, name an interpreter that "
                f"has it (rollout.launch.python=..., or the environment variable {self.variable}), or give the address of a "
                f"running server (rollout.url=...). See {self.page}."
            )
        site = site or Site()
        on_this_machine = site.neighbours * (launch.servers + launch.initial_servers)
        if launch.devices and len(launch.devices) != on_this_machine:
            raise RecipeError(
                f"rollout.launch.devices: {len(launch.devices)} entries for {on_this_machine} servers "
                f"(servers={launch.servers} and initial_servers={launch.initial_servers}, times {site.neighbours} ranks). "
                "Give one each, or none."
            )
        model = _model_path(student, folder / f"{self.module}-model")
        return [
            ServerCommand(
                python=python,
                program=self.words(model),
                host=launch.host,
                port=launch.port + index if launch.port else free_port(launch.host),
                arguments={**arguments, **launch.args},
                environment={**environment, **_visible_devices(launch, index, student, colocated=colocated), **launch.env},
            )
            for index in _indices(launch, site, which)
        ]


def _indices(launch: Launch, site: Site, which: PolicyWeights) -> range:
    """Return the places of a rank's servers among those of its machine: all that are trained, then all with initial weights."""
    if which == "live":
        return range(site.local * launch.servers, (site.local + 1) * launch.servers)
    first = site.neighbours * launch.servers + site.local * launch.initial_servers
    return range(first, first + launch.initial_servers)


def _visible_devices(launch: Launch, index: int, student: Policy, *, colocated: bool) -> dict[str, str]:
    """Return CUDA_VISIBLE_DEVICES of a server: its entry of `devices`, or the GPU that a colocated server shares."""
    if launch.devices:
        return {"CUDA_VISIBLE_DEVICES": launch.devices[index]}
    device = student.device.index
    if not colocated or not device:
        return {}
    visible = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    return {"CUDA_VISIBLE_DEVICES": visible[device] if visible else str(device)}


def _model_path(student: Policy, exported: Path) -> str:
    """Return a folder with the architecture that the server can load; the weights are sent to it in any case."""
    saved, options = student.folder, student.settings
    if saved is not None and options.gguf is None and not options.pickle_weights and not _was_untied(student, saved):
        return str(saved)
    student.export(exported)
    return str(exported)


def _was_untied(student: Policy, folder: Path) -> bool:
    """Return whether the head has got a weight of its own since the model was loaded, because an adapter acts on it."""
    if not hasattr(student.model, "peft_config") or student.model.config.get_text_config().tie_word_embeddings:
        return False
    from transformers import AutoConfig

    saved = AutoConfig.from_pretrained(folder, trust_remote_code=student.settings.trust_remote_code)
    return bool(saved.get_text_config().tie_word_embeddings)
