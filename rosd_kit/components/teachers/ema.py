"""An exponential moving average of the student as teacher. Does not know the optimizer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING

import torch
from pydantic import Field

from rosd_kit.contracts import Policy, Teacher, TeacherModel
from rosd_kit.errors import RunError

if TYPE_CHECKING:
    from torch import Tensor, nn


class EMA(Teacher):
    """teacher <- (1 - rate) teacher + rate student, after every step. Source: SDPO (arXiv 2601.20802), rate 0.05.

    Only trainable tensors can differ from the student's, so only they are kept: with LoRA the average is as small as
    the adapters. To score, the student's parameters point to the average's storage, which copies nothing; sharded
    parameters (FSDP) exchange their contents instead.
    """

    name = "ema"

    class Config(Teacher.Config):
        """Options of `ema`."""

        rate: float = Field(default=0.05, ge=0.0, le=1.0)
        """Share of the student in each update of the average; 0 is `frozen`, 1 is `live`."""

    def attach(self, student: Policy) -> None:
        """Start the average at the student's current weights, in float32 or wider."""
        self._average = {name: _widened(p) for name, p in _trainable(student.model)}
        self._refresh(student.model)

    def after_step(self, student: Policy) -> None:
        """Move the average towards the student."""
        with torch.no_grad():
            for name, parameter in _trainable(student.model):
                average = self._average[name]
                average.lerp_(parameter.detach().to(average.dtype), self.config.rate)
            self._refresh(student.model)

    @contextmanager
    def scoring(self, student: Policy) -> Iterator[tuple[TeacherModel, ...]]:
        """Yield the student's network, which computes with the average while it scores."""
        yield (TeacherModel(student.model, guard=lambda: self._swapped(student.model)),)

    def extra_bytes(self, trained: int, narrow: int) -> int:
        """Return the bytes of the average, plus those of its rounded copy for weights narrower than float32."""
        return 4 * trained + 2 * narrow

    def state_dict(self) -> dict[str, Tensor]:
        """Return the average by parameter name."""
        return dict(self._average)

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Load a saved average. Raises `RunError` if it belongs to another model."""
        from rosd_kit.parallel.fsdp import shard_like

        if different := sorted(state.keys() ^ self._average.keys()):
            raise RunError(
                f"teacher: the checkpoint's ema state does not fit the student: {len(different)} tensors are only on "
                f"one side, first {different[0]!r}. Resume with the recipe's original model and lora settings."
            )
        for name, average in self._average.items():
            average.copy_(shard_like(state[name], average))
            self._scored[name].copy_(average)

    def _refresh(self, model: nn.Module) -> None:
        """Round the average to the parameters' dtype; no copy is made if the dtypes are equal."""
        self._scored = {name: self._average[name].to(p.dtype) for name, p in _trainable(model)}

    def _swapped(self, model: nn.Module) -> AbstractContextManager[None]:
        from rosd_kit.parallel.fsdp import swapped

        return swapped((parameter, self._scored[name]) for name, parameter in _trainable(model))


def _trainable(model: nn.Module) -> list[tuple[str, nn.Parameter]]:
    return [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]


def _widened(parameter: nn.Parameter) -> Tensor:
    return parameter.detach().clone().to(torch.promote_types(parameter.dtype, torch.float32))
