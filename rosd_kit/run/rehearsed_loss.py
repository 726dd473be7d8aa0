"""The loss of a real problem's samples for a dry run: calls every component of the loss as a step would, and trains nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import nn

from rosd_kit.model.student import Student
from rosd_kit.options import options_at
from rosd_kit.parallel.ranks import Ranks
from rosd_kit.recipe import Recipe
from rosd_kit.recipe.built import BuiltComponents
from rosd_kit.run.update import update
from rosd_kit.training.optimizer import StepOutcome
from rosd_kit.types import DistillSample


class _NoUpdate:
    """Takes the optimizer's place: measures the gradient and drops it."""

    def __init__(self, model: nn.Module) -> None:
        self._parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]

    def step(self, loss: float, *, ends_step: bool = True) -> StepOutcome:
        gradients = [parameter.grad for parameter in self._parameters if parameter.grad is not None]
        norm = float(nn.utils.get_total_norm(gradients)) if gradients else 0.0
        for parameter in self._parameters:
            parameter.grad = None
        return StepOutcome(applied=False, grad_norm=norm, lr=0.0, change=0.0)


def rehearse_loss(
    samples: Sequence[DistillSample], step: int, *, recipe: Recipe, student: Student, components: BuiltComponents
) -> Iterator[str]:
    """Yield lines for the user: loss, gradient, and whatever was wrong with a component but does not end a run.

    Called with the samples of a step, of which one problem's are scored; the teacher is attached. Raises `ComponentError` for
    what a component may not return.
    """
    chosen = next((sample for sample in samples if any(sample.token_weights)), samples[0]).problem_id
    recipe = recipe.at_step(step)
    with options_at(step), torch.enable_grad():
        updated = update(
            [sample for sample in samples if sample.problem_id == chosen],
            recipe=recipe,
            student=student,
            components=components.with_weights(recipe.objective),
            optimizer=_NoUpdate(student.model),
            ranks=Ranks(device=student.device),
        )
    values = updated.metrics
    terms = (f"{name.removeprefix('train/loss/')} {n:.4g}" for name, n in values.items() if name.startswith("train/loss/"))
    yield (
        f"loss {values['train/loss']:.4g} ({', '.join(terms)}) over {values['train/weighted_tokens']:.0f} weighted tokens of "
        f"problem {chosen}; gradient {values['train/grad_norm']:.4g}"
    )
    yield from (f"warning: {line}" for line in (*updated.faults, *components.boundary.take()))
