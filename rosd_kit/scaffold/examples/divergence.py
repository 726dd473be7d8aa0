"""The divergence `example`: measures the distance between student and teacher at each token."""

from __future__ import annotations

import torch

import rosd_kit as rk

#: The version of the plugin API that this plugin is written for.
rosd_kit_api = 2

#: Replaces log 0: its exponential is exactly 0, and no gradient becomes NaN.
_LOG_ZERO = -1e9


class Example(rk.Divergence):
    """The squared Hellinger distance, 1 - sum sqrt(student teacher): between 0 and 1."""

    name = "example"

    def per_token(self, student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
        student, teacher = (logp.float().clamp_min(_LOG_ZERO) for logp in (student, teacher.detach()))
        return 1 - ((student + teacher) / 2).exp().sum(-1)


@rk.hookimpl
def rosd_kit_components() -> list[type[rk.Component]]:
    return [Example]
