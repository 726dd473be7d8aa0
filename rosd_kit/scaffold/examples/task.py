"""The task `example`: where problems come from."""

from __future__ import annotations

import random

from pydantic import Field

import rosd_kit as rk

#: The version of the plugin API that this was written for.
rosd_kit_api = 2


class Example(rk.Task):
    """Sums of three numbers, in the words that the embedded model knows."""

    name = "example"
    provides = frozenset({"solution"})

    class Config(rk.Config):
        """How hard the sums are."""

        largest: int = Field(default=20, ge=5, le=33)
        """The largest number that is added."""

    def train_batch(self, *, step: int, count: int, seed: int) -> list[rk.Problem]:
        return [self._problem("train", f"{seed}-{step}-{place}") for place in range(count)]

    def suites(self, *, count: int, seed: int) -> dict[str, list[rk.Problem]]:
        return {"held_out": [self._problem("test", f"{seed}-{place}") for place in range(count)]}

    def in_domain(self) -> frozenset[str]:
        return frozenset({"held_out"})

    def _problem(self, part: str, name: str) -> rk.Problem:
        """Return the one problem of this name; sums that begin with an even number are kept for measuring."""
        rng = random.Random(f"{part} {name}")
        numbers = [rng.randint(0, self.config.largest) for _ in range(3)]
        numbers[0] = 2 * (numbers[0] // 2) + (part == "train")
        first, second, third = numbers
        steps = f"Step 1 : {first} + {second} = {first + second} . Step 2 : {first + second} + {third} = {sum(numbers)} ."
        return rk.Problem(
            id=f"{part}-{name}",
            messages=({"role": "user", "content": f"Start at {first} . Add {second} . Add {third} . What is the result ?"},),
            answer=str(sum(numbers)),
            solution=f"{steps} Answer : {sum(numbers)} .",
        )


@rk.hookimpl
def rosd_kit_components() -> list[type[rk.Component]]:
    return [Example]
