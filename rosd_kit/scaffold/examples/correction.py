"""The correction `example`: weights tokens of rollouts that an older policy sampled."""

from __future__ import annotations

import torch
from pydantic import Field

import rosd_kit as rk

#: The version of the plugin API that this plugin is written for.
rosd_kit_api = 2


class Example(rk.Correction):
    """Gives a token weight 1 while the two policies agree about it, and 0 when they no longer do."""

    name = "example"

    class Config(rk.Config):
        """The limit of agreement."""

        max_difference: float = Field(default=0.7, gt=0.0)
        """Largest difference between the two logprobs, in nats."""

    def weigh(self, behaviour: torch.Tensor, current: torch.Tensor) -> torch.Tensor:
        difference = (current - behaviour).abs().detach()
        return (difference <= float(self.config.max_difference)).to(current.dtype)


@rk.hookimpl
def rosd_kit_components() -> list[type[rk.Component]]:
    return [Example]
