"""The correction `example`: importance weights for rollouts that are a few updates old."""

from __future__ import annotations

import torch
from pydantic import Field

import rosd_kit as rk

#: The version of the plugin API that this was written for.
rosd_kit_api = 2


class Example(rk.Correction):
    """Weight 1 while the two policies agree about a token, and 0 where they no longer do."""

    name = "example"

    class Config(rk.Config):
        """What counts as agreement."""

        most: float = Field(default=0.7, gt=0.0)
        """Largest difference of the two log-probs, in nats."""

    def weigh(self, behaviour: torch.Tensor, current: torch.Tensor) -> torch.Tensor:
        apart = (current - behaviour).abs().detach()
        return (apart <= float(self.config.most)).to(current.dtype)


@rk.hookimpl
def rosd_kit_components() -> list[type[rk.Component]]:
    return [Example]
