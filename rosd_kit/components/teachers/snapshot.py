"""An earlier state of the student as teacher. Does not know the optimizer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from pydantic import PositiveInt

from rosd_kit.components.teachers.copied_weights import CopiedWeights, trainable
from rosd_kit.contracts import Policy

if TYPE_CHECKING:
    from torch import Tensor

_STEPS = "snapshot.steps"


class Snapshot(CopiedWeights):
    """The student as it was after the latest step whose number `every` divides; at first, the initial weights.

    Source: RLSD (arXiv 2604.03128) and RLCSD (arXiv 2606.11709), whose teachers are renewed every 10 steps. With LoRA the
    snapshot is as small as the adapters.
    """

    name = "snapshot"

    class Config(CopiedWeights.Config):
        """Options of `snapshot`."""

        every: PositiveInt = 10
        """Steps from one snapshot to the next; 1 is `live`."""

    def attach(self, student: Policy) -> None:
        """Start with the student's current weights."""
        super().attach(student)
        self._steps = 0

    def after_step(self, student: Policy) -> None:
        """Count the step, and copy the student's weights if a snapshot is due."""
        self._steps += 1
        if self._steps % self.config.every == 0:
            with torch.no_grad():
                for name, parameter in trainable(student.model):
                    self._kept[name].copy_(parameter.detach())
            self.refresh(student.model)

    def extra_bytes(self, trained: int, narrow: int) -> int:
        """Return the bytes of the copy, which is as wide as the weights."""
        return 4 * trained - 2 * narrow

    def state_dict(self) -> dict[str, Tensor]:
        """Return the snapshot by parameter name, and the number of steps taken."""
        return {**super().state_dict(), _STEPS: torch.tensor(self._steps)}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Load a saved snapshot. Raises `RunError` if it belongs to another model."""
        super().load_state_dict({name: tensor for name, tensor in state.items() if name != _STEPS})
        self._steps = int(state[_STEPS])
