"""The objective `example`: one term of the loss."""

from __future__ import annotations

from collections.abc import Sequence

import torch

import rosd_kit as rk

#: The version of the plugin API that this plugin is written for.
rosd_kit_api = 2


class Example(rk.Objective):
    """Raises the likelihood of responses whose reward is above their group's mean, in proportion to the difference."""

    name = "example"
    needs = frozenset({"group"})

    def token_weights(self, sample: rk.DistillSample) -> Sequence[float]:
        weight = sample.weight * self.advantage(sample) if self.takes(sample) else 0.0
        return [weight] * len(sample.response_ids)

    def advantage(self, sample: rk.DistillSample) -> float:
        return max(0.0, sample.reward - sum(sample.group_rewards) / len(sample.group_rewards))

    def per_token(self, scores: rk.TokenScores) -> torch.Tensor:
        return -scores.sampled_logprobs()


@rk.hookimpl
def rosd_kit_components() -> list[type[rk.Component]]:
    return [Example]
