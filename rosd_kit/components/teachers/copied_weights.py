"""The base of teachers that keep a copy of the trained weights. Does not know when the copy changes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any

from rosd_kit.contracts import Policy, Teacher, TeacherModel
from rosd_kit.errors import RunError

if TYPE_CHECKING:
    from torch import Tensor, nn


class CopiedWeights(Teacher):
    """Base of teachers that score with a copy of the student's trained weights.

    Only trainable tensors can differ from the student's, so only they are kept: with LoRA the copy is as small as the adapters.
    To score, the student's parameters point to the copy's storage, which copies nothing; sharded parameters (FSDP) exchange
    their contents instead.
    """

    def attach(self, student: Policy) -> None:
        """Start with the student's current weights."""
        self._kept = {name: self.copied(parameter) for name, parameter in trainable(student.model)}
        self.refresh(student.model)

    def copied(self, parameter: nn.Parameter) -> Tensor:
        """Return a copy of a parameter, in the precision that this teacher keeps."""
        return parameter.detach().clone()

    @contextmanager
    def scoring(self, student: Policy) -> Iterator[tuple[TeacherModel, ...]]:
        """Yield the student's network, which computes with the copy while it scores."""
        model: Any = student.model  # transformers does not type the method
        head: nn.Module = model.get_output_embeddings()
        trains_head = any(parameter.requires_grad for parameter in head.parameters())
        yield (TeacherModel(student.model, guard=lambda: self._swapped(student.model), guards_head=trains_head),)

    def state_dict(self) -> dict[str, Tensor]:
        """Return the copy by parameter name."""
        return dict(self._kept)

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Load a saved copy. Raises `RunError` if it belongs to another model."""
        from rosd_kit.parallel.fsdp import shard_like

        if different := sorted(state.keys() ^ self._kept.keys()):
            raise RunError(
                f"teacher: the checkpoint's {self.name} state does not fit the student: {len(different)} tensors are only on "
                f"one side, first {different[0]!r}. Resume with the recipe's original model and lora settings."
            )
        for name, kept in self._kept.items():
            kept.copy_(shard_like(state[name], kept))
            self._scored[name].copy_(kept)

    def refresh(self, model: nn.Module) -> None:
        """Round the copy to the parameters' dtype; nothing is copied if the dtypes are equal."""
        self._scored = {name: self._kept[name].to(p.dtype) for name, p in trainable(model)}

    def _swapped(self, model: nn.Module) -> AbstractContextManager[None]:
        from rosd_kit.parallel.fsdp import swapped

        return swapped((parameter, self._scored[name]) for name, parameter in trainable(model))


def trainable(model: nn.Module) -> list[tuple[str, nn.Parameter]]:
    """Return the trained parameters by name."""
    return [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
