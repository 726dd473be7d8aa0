"""The support `example`: chooses the vocabulary entries on which student and teacher are compared."""

from __future__ import annotations

import torch
from pydantic import Field

import rosd_kit as rk

#: The version of the plugin API that this plugin is written for.
rosd_kit_api = 2


class Example(rk.Support):
    """The most likely entries of either side, renormalised."""

    name = "example"

    class Config(rk.Config):
        """The number of entries."""

        k: int = Field(default=50, ge=1)
        """Number of entries, chosen by the larger of the two probabilities."""

    def project(self, student: torch.Tensor, teacher: torch.Tensor, sampled: torch.Tensor) -> rk.Projection:
        likely = torch.maximum(student.detach(), teacher)
        index = likely.topk(min(self.config.k, likely.shape[-1]), dim=-1).indices
        return rk.Projection(
            student=student.gather(-1, index).log_softmax(-1), teacher=teacher.gather(-1, index).log_softmax(-1)
        )


@rk.hookimpl
def rosd_kit_components() -> list[type[rk.Component]]:
    return [Example]
