"""The teacher `example`: provides the weights that score the rollouts."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from pydantic import Field

import rosd_kit as rk

#: The version of the plugin API that this plugin is written for.
rosd_kit_api = 2


class Example(rk.Teacher):
    """Scores with a copy of the student that is updated every few steps."""

    name = "example"

    class Config(rk.Config):
        """The age of the copy."""

        every: int = Field(default=10, ge=1)
        """Steps between updates of the copy."""

    def attach(self, student: rk.Policy) -> None:
        self._copy = copy.deepcopy(student.model).requires_grad_(False)
        self._steps = 0

    @contextmanager
    def scoring(self, student: rk.Policy) -> Iterator[tuple[rk.TeacherModel, ...]]:
        yield (rk.TeacherModel(self._copy),)

    def after_step(self, student: rk.Policy) -> None:
        self._steps += 1
        if self._steps % self.config.every == 0:
            self._load(dict(student.model.named_parameters()))

    def state_dict(self) -> dict[str, torch.Tensor]:
        weights = {f"copy.{name}": weight.detach() for name, weight in self._copy.named_parameters()}
        return {"steps": torch.tensor(self._steps), **weights}

    def load_state_dict(self, state: Mapping[str, torch.Tensor]) -> None:
        self._steps = int(state["steps"])
        self._load({name.removeprefix("copy."): weight for name, weight in state.items() if name != "steps"})

    @torch.no_grad()
    def _load(self, weights: Mapping[str, torch.Tensor]) -> None:
        for name, weight in self._copy.named_parameters():
            weight.copy_(weights[name])


@rk.hookimpl
def rosd_kit_components() -> list[type[rk.Component]]:
    return [Example]
