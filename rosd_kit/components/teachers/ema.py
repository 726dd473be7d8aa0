"""An exponential moving average of the student as teacher. Does not know the optimizer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from pydantic import Field

from rosd_kit.components.teachers.copied_weights import CopiedWeights, trainable
from rosd_kit.contracts import Policy

if TYPE_CHECKING:
    from torch import Tensor, nn


class EMA(CopiedWeights):
    """teacher <- (1 - rate) teacher + rate student, after every step. Source: SDPO (arXiv 2601.20802), rate 0.05.

    With LoRA the average is as small as the adapters.
    """

    name = "ema"

    class Config(CopiedWeights.Config):
        """Options of `ema`."""

        rate: float = Field(default=0.05, ge=0.0, le=1.0)
        """Share of the student in each update of the average; 0 is `frozen`, 1 is `live`."""

    def copied(self, parameter: nn.Parameter) -> Tensor:
        """Return a copy in float32 or wider."""
        return parameter.detach().clone().to(torch.promote_types(parameter.dtype, torch.float32))

    def after_step(self, student: Policy) -> None:
        """Move the average towards the student."""
        with torch.no_grad():
            for name, parameter in trainable(student.model):
                average = self._kept[name]
                average.lerp_(parameter.detach().to(average.dtype), self.config.rate)
            self.refresh(student.model)

    def extra_bytes(self, trained: int, narrow: int) -> int:
        """Return the bytes of the average, plus those of its rounded copy for weights narrower than float32."""
        return 4 * trained + 2 * narrow
