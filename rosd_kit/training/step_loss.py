"""The engine: the loss of a whole step and its gradient, in pieces that fit the memory.

    samples -> micro-batches -> hidden states -> chunks of weighted tokens -> logits -> objectives
                 (backbone)                        (head, student and teacher)

The backbone runs once a micro-batch. The head runs only on tokens that have a weight, chunk by chunk (`chunks.py`), and
the loss of a chunk is differentiated inside it: logits never outlive their chunk. One backward pass then takes the
collected gradient through the backbone. Every term has one denominator, the sum of its weights over all samples of the
step, so loss and gradient are the same however the step is cut, into micro-batches, chunks or processes (up to rounding,
and but for dropout). Knows nothing of optimizers or of any method.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from rosd_kit.contracts import TeacherModel
from rosd_kit.model.packing import Text, idle_layout, lay_out, plan
from rosd_kit.model.prefix_tree import Ids
from rosd_kit.model.split import SplitModel, split
from rosd_kit.parallel.fsdp import is_sharded
from rosd_kit.parallel.ranks import Ranks
from rosd_kit.recipe.built import WeightedObjective
from rosd_kit.settings import BatchSettings
from rosd_kit.training.balancing import in_step, share_out
from rosd_kit.training.chunked_loss import HeadLoss
from rosd_kit.training.grad_accumulation import in_place
from rosd_kit.training.loss_report import LossReport, build_report
from rosd_kit.training.teacher import TeacherScorer
from rosd_kit.training.timer import Clock
from rosd_kit.training.token_weights import WeightedTokens, weigh, weighted_tokens
from rosd_kit.types import DistillSample

__all__ = ["LossReport", "backward_step"]


def backward_step(
    *,
    student: nn.Module,
    teacher_models: Sequence[TeacherModel],
    samples: Sequence[DistillSample],
    objectives: Sequence[WeightedObjective],
    settings: BatchSettings,
    pad_id: int,
    temperature: float = 1.0,
    backward: bool = True,
    ranks: Ranks | None = None,
) -> LossReport:
    """Add the gradient of a whole step's loss to the parameters' `.grad` and return what the loss was made of.

    Called once a step, inside `Teacher.scoring`. The student runs in the mode, train or eval, that it is in. The
    teacher is the share-weighted sum of the teacher_models' logits; where a sample has several teacher views, a token's loss
    is the mean over them. `temperature` is the one the rollouts were sampled at: importance ratios are taken there,
    where the behaviour log-probs were; entropies and divergences are at temperature 1. `backward=False` only measures.

    With several `ranks` each is given all samples of the step and works on its share of them; the report is that of the
    whole step, and what each then finds in `.grad`, which must have been empty, is the whole gradient (or its piece of it).

    Raises `RunError` when student and teacher have different vocabularies.
    """
    assert all(sample.prompt_ids for sample in samples), "a response without a prompt has no first logit"
    assert len({term.objective.name for term in objectives}) == len(objectives), "two objective terms of one name"
    ranks = ranks if ranks is not None and ranks.count > 1 else None
    step = weigh(samples, objectives)
    model = split(student)
    mode = model.mode(settings.layout)
    covered = step.covered()
    scorer = TeacherScorer(teacher_models, settings=settings, pad_id=pad_id, samples=[samples[i] for i in covered])
    head = HeadLoss(
        student=model,
        teacher=scorer,
        terms=tuple(objectives),
        factors=torch.tensor(
            [term.weight / (total or 1.0) for term, total in zip(objectives, step.totals, strict=True)],
            dtype=torch.float64,
        ),
        chunk_bytes=settings.chunk_mib << 20,
        temperature=temperature,
    )
    clock = Clock()
    texts = {i: Text(samples[i].prompt_ids, samples[i].response_ids, samples[i].problem_id) for i in covered}
    own = share_out(covered, [texts[i] for i in covered], ranks.count)[ranks.rank] if ranks else covered
    micro_batches = []
    for group in plan([texts[i] for i in own], budget=settings.tokens, mode=mode, begins=model.begins):
        indices = [own[place] for place in group.texts]
        weights, advantages = [step.per_sample[i] for i in indices], [step.advantages[i] for i in indices]
        chosen = [samples[index] for index in indices]
        tokens = weighted_tokens(chosen, weights, advantages, objectives)
        micro_batches.append(_MicroBatch(indices, group.begun, chosen, tokens))
    together = _rounds(micro_batches, scorer, ranks) if ranks is not None and is_sharded(student) else None
    clock.lap("weigh")
    pieces = []
    with in_place(model.backbone):
        for number, micro_batch in enumerate(micro_batches):
            tokens = micro_batch.tokens
            passes = together[number] if together else ()
            taught = scorer.states(micro_batch.samples, tokens, passes, parted=bool(micro_batch.begun))
            clock.lap("teacher")
            layout = lay_out([texts[i] for i in micro_batch.indices], pad_id=pad_id, mode=mode, begun=micro_batch.begun)
            with torch.set_grad_enabled(backward):
                hidden = model.states(layout, tokens.sample, tokens.token)
            if backward:
                clock.lap("student")
                loss, scored = head.differentiate(hidden, taught, tokens)
                clock.lap("head")
                if loss.requires_grad:  # else nothing below the head is trained
                    torch.autograd.backward(loss)
                clock.lap("backward")
            else:
                scored = head.measure(hidden, taught, tokens)
            pieces.append((micro_batch.indices, tokens, scored))
        model.beginnings.close()
    clock.lap("backward")
    if ranks is not None:
        for passes in together[len(micro_batches) :] if together else ():
            _idle(model, scorer, passes, backward=backward)
        if backward:
            ranks.add_up(_whole_gradients(student))
        pieces = sorted((piece for found in ranks.gather(pieces) for piece in found), key=lambda piece: piece[0])
        clock.lap("backward")
    return build_report(samples, objectives, step, pieces, clock.seconds)


@dataclass(frozen=True)
class _MicroBatch:
    """Some samples, their places in the step, what they all begin with, if that runs before, and their weighted tokens."""

    indices: list[int]
    begun: Ids
    samples: list[DistillSample]
    tokens: WeightedTokens


def _rounds(micro_batches: Sequence[_MicroBatch], scorer: TeacherScorer, ranks: Ranks) -> list[list[int]]:
    """Return for each round how often every process must run each teacher model: a sharded model runs on all ranks or none."""
    return in_step([scorer.passes(batch.samples, batch.tokens, parted=bool(batch.begun)) for batch in micro_batches], ranks)


def _idle(model: SplitModel, scorer: TeacherScorer, passes: Sequence[int], *, backward: bool) -> None:
    """Take part in a micro-batch of others; the gradient is zero."""
    scorer.idle(passes)
    with torch.set_grad_enabled(backward):
        hidden = model.hidden(idle_layout())
    if hidden.requires_grad:  # else nothing below the head is trained
        torch.autograd.backward(hidden.sum() * 0.0)


def _whole_gradients(student: nn.Module) -> list[Tensor]:
    """Return the gradient of every trainable weight that each process holds whole; zeros where there is none yet."""
    found = []
    for parameter in student.parameters():
        if parameter.requires_grad and not isinstance(parameter, DTensor):
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            found.append(parameter.grad)
    return found
