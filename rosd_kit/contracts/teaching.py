"""The slots `context` and `teacher`: what the teacher reads, and whose weights score."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rosd_kit.contracts.component import Component
from rosd_kit.contracts.policy import Policy
from rosd_kit.types import Case, Prompt

if TYPE_CHECKING:
    from torch import Tensor, nn


class Context(Component):
    """Writes the teacher's prompt."""

    kind = "context"

    @abstractmethod
    def prompts(self, case: Case) -> tuple[Prompt, ...]:
        """Return one prompt per teacher view; none if the case has no privileged text."""


@dataclass(frozen=True)
class TeacherModel:
    """One network of the teacher, and its share in the sum of logits.

    It reads the teacher's prompt, or with `plain` the student's prompt without privileged text. `guard` is entered around every
    use of `model` and left before the student runs again: a teacher that shares modules with the student (adapters off,
    averaged weights) switches them there. It is entered often, so it must be cheap. `guards_head=False` promises that it leaves
    a plain output layer as it is: then it is not entered for the logits, once a chunk of tokens, but for the states only.
    """

    model: nn.Module
    share: float = 1.0
    guard: Callable[[], AbstractContextManager[object]] = nullcontext
    plain: bool = False
    guards_head: bool = True

    @contextmanager
    def active(self) -> Iterator[nn.Module]:
        """Yield the network ready to score: guarded, in eval mode, without gradients; restore everything afterwards."""
        import torch

        training = [module for module in self.model.modules() if module.training]
        with self.guard(), torch.no_grad():
            try:
                self.model.eval()
                yield self.model
            finally:
                for module in training:
                    module.training = True


class Teacher(Component):
    """Provides the weights that score the rollouts."""

    kind = "teacher"

    @abstractmethod
    def attach(self, student: Policy) -> None:
        """Attach to the student while it holds its initial weights; called once, on resume before others are loaded."""

    @abstractmethod
    def scoring(self, student: Policy) -> AbstractContextManager[tuple[TeacherModel, ...]]:
        """Yield the networks to score with; the teacher's logits are the share-weighted sum of theirs.

        The student trains while this is open, so it must not change the student; `TeacherModel.guard` is the place for that.
        """

    def after_step(self, student: Policy) -> None:
        """Update the teacher; called after every optimizer step."""
        return None

    def extra_bytes(self, trained: int, narrow: int) -> int:
        """Return the memory that it holds besides the student and its initial weights, for the memory estimate.

        `trained` counts the trained parameters, `narrow` those of them that are not in float32.
        """
        return 0

    def state_dict(self) -> dict[str, Tensor]:
        """Return every tensor that a resumed run cannot recompute from the initial weights."""
        return {}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Restore what `state_dict` returned."""
        assert not state, "a stateless teacher was given a state"
