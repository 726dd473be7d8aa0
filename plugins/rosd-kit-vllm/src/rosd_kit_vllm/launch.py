"""The command that launches a vLLM server for a student, and the pool of such servers. Starts nothing."""

from __future__ import annotations

from pathlib import Path

import rosd_kit as rk
from rosd_kit.serving.factory import PoolFactory
from rosd_kit.serving.launch import Program
from rosd_kit.serving.options import ServedOptions
from rosd_kit.serving.server import Argument, ServerCommand
from rosd_kit_vllm.client import VLLMClient
from rosd_kit_vllm.protocol import LOGPROBS_MODE, WORKER_EXTENSION

PROGRAM = Program(
    engine="vLLM",
    module="vllm",
    words=lambda model: ("-m", "vllm.entrypoints.cli.main", "serve", model),
    variable="ROSD_KIT_VLLM_PYTHON",
    page="the README of rosd-kit-vllm",
)

#: Holds the worker extension and nothing else, so that a server finds no other package of the trainer's environment.
SERVER_PATH = Path(__file__).with_name("server_path")

#: What every server needs, also one that somebody else starts (README.md).
ARGUMENTS: dict[str, Argument] = {
    "enable_scale_out": True,  # the route that takes and gives token ids
    "generation_config": "vllm",  # or the model's own file would change how it samples
    "logprobs_mode": LOGPROBS_MODE,
    "worker_extension_cls": WORKER_EXTENSION,
}
ENVIRONMENT = {
    "PYTHONPATH": str(SERVER_PATH),
    "VLLM_SERVER_DEV_MODE": "1",  # the routes for weights
    "VLLM_USE_V2_MODEL_RUNNER": "0",  # whose sampler the worker extension does not know
}


class VLLMPoolFactory(PoolFactory[ServedOptions]):
    """Builds the pools of `rollout: vllm`."""

    client_class = VLLMClient

    def commands(self, which: rk.PolicyWeights) -> list[ServerCommand]:
        arguments, environment = default_arguments(self.student)
        key = self.api_key()
        return PROGRAM.commands(
            self.student,
            self.config.launch,
            which=which,
            site=self.site,
            folder=self.folder,
            colocated=self.config.colocated,
            arguments=arguments,
            environment={**environment, **({"VLLM_API_KEY": key} if key else {})},
        )


def default_arguments(student: rk.Policy) -> tuple[dict[str, Argument], dict[str, str]]:
    """Return arguments and environment of a server for this student; those of the recipe override them."""
    arguments = {**ARGUMENTS, "dtype": student.settings.dtype, "disable_uvicorn_access_log": True}
    environment = {**ENVIRONMENT, "VLLM_NO_USAGE_STATS": "1"}
    if student.settings.trust_remote_code:
        arguments["trust_remote_code"] = True
    if student.device.type != "cpu":
        return arguments, environment
    on_cpu: dict[str, Argument] = {"enforce_eager": True, "max_num_seqs": 64}
    return {**arguments, **on_cpu}, {**environment, "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
