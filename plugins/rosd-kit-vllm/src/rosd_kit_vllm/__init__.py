"""Rollouts by vLLM servers: adds the engine `vllm`.

engine       the rollout engine and its options
launch       the command that starts a server for a student
client       vLLM's routes
protocol     responses of a server, checked and parsed
server_path  a module that the servers import; it goes on their PYTHONPATH
"""

from __future__ import annotations

import rosd_kit as rk
from rosd_kit_vllm.engine import VLLMEngine

rosd_kit_api = 2


@rk.hookimpl
def rosd_kit_components() -> list[type[rk.Component]]:
    """Return the components of this package."""
    return [VLLMEngine]
