"""The task `example`: provides the problems."""

from __future__ import annotations

import random

from pydantic import Field

import rosd_kit as rk

#: The version of the plugin API that this plugin is written for.
rosd_kit_api = 2


class Example(rk.Task):
    """Sums of three numbers, in words that the embedded model knows."""

    name = "example"
    provides = frozenset({"solution"})

    class Config(rk.Config):
        """The difficulty of the sums."""

        largest: int = Field(default=20, ge=5, le=33)
        """Largest number in a sum."""

    def train_batch(self, *, step: int, count: int, seed: int) -> list[rk.Problem]:
        return [self._problem("train", f"{seed}-{step}-{index}") for index in range(count)]

    def suites(self, *, count: int, seed: int) -> dict[str, list[rk.Problem]]:
        return {"held_out": [self._problem("test", f"{seed}-{index}") for index in range(count)]}

    def in_domain(self) -> frozenset[str]:
        return frozenset({"held_out"})

    def _problem(self, split: str, name: str) -> rk.Problem:
        """Return the problem with this name; sums that begin with an even number are reserved for evaluation."""
        rng = random.Random(f"{split} {name}")
        numbers = [rng.randint(0, self.config.largest) for _ in range(3)]
        numbers[0] = 2 * (numbers[0] // 2) + (split == "train")
        first, second, third = numbers
        steps = f"Step 1 : {first} + {second} = {first + second} . Step 2 : {first + second} + {third} = {sum(numbers)} ."
        return rk.Problem(
            id=f"{split}-{name}",
            messages=({"role": "user", "content": f"Start at {first} . Add {second} . Add {third} . What is the result ?"},),
            answer=str(sum(numbers)),
            solution=f"{steps} Answer : {sum(numbers)} .",
        )


@rk.hookimpl
def rosd_kit_components() -> list[type[rk.Component]]:
    return [Example]
