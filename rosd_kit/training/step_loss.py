"""The loss of a whole step and its gradient, computed in micro-batches and chunks that fit in memory.

    samples -> micro-batches -> hidden states -> chunks of weighted tokens -> logits -> objectives
                 (backbone)                        (head, student and teacher)

The backbone runs once per micro-batch. The head runs only on tokens that have a weight, chunk by chunk (`chunked_loss.py`),
and the loss of a chunk is differentiated inside it: logits never outlive their chunk. One backward pass then takes the
collected gradient through the backbone. Every objective term has one denominator, the sum of its weights over all samples of
the step, so loss and gradient do not depend on how the step is cut, into micro-batches, chunks or ranks (up to rounding and
dropout).
Does not know optimizers or methods.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from rosd_kit.contracts import TeacherModel
from rosd_kit.model.packing import TokenSequence, build_layout, dummy_layout, plan_micro_batches
from rosd_kit.model.prefix_tree import Ids
from rosd_kit.model.split import SplitModel, split_model
from rosd_kit.parallel.fsdp import is_sharded
from rosd_kit.parallel.ranks import Ranks
from rosd_kit.recipe.built import WeightedObjective
from rosd_kit.settings import BatchSettings
from rosd_kit.training.balancing import assign_to_ranks, equalize_passes
from rosd_kit.training.chunked_loss import HeadLoss
from rosd_kit.training.grad_accumulation import accumulate_in_place, ensure_grad
from rosd_kit.training.loss_report import LossReport, build_report
from rosd_kit.training.teacher import TeacherScorer
from rosd_kit.training.timer import Timer
from rosd_kit.training.token_weights import WeightedTokens, compute_weights, weighted_tokens
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
    """Add the gradient of a whole step's loss to the parameters' `.grad`, and return the loss report.

    Called once per step, inside `Teacher.scoring`. The student runs in its present mode, train or eval. The teacher is the
    share-weighted sum of the teacher models' logits; where a sample has several teacher views, a token's loss is the mean over
    them. `temperature` is the sampling temperature of the rollouts: importance ratios are computed at it, like the behaviour
    log-probs; entropies and divergences at temperature 1. `backward=False` only measures.

    With several `ranks`, each gets all samples of the step and works on its share. The report covers the whole step, and
    `.grad`, which must have been empty, ends up with the whole gradient (or this rank's shard of it).

    Raises `RunError` when student and teacher have different vocabularies.
    """
    assert all(sample.prompt_ids for sample in samples), "a response without a prompt has no first logit"
    assert len({term.objective.name for term in objectives}) == len(objectives), "two objective terms with one name"
    ranks = ranks if ranks is not None and ranks.count > 1 else None
    step = compute_weights(samples, objectives)
    model = split_model(student)
    mode = model.layout_mode(settings.layout)
    weighted = step.weighted_samples()
    scorer = TeacherScorer(teacher_models, settings=settings, pad_id=pad_id, samples=[samples[i] for i in weighted])
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
    timer = Timer()
    sequences = {i: TokenSequence(samples[i].prompt_ids, samples[i].response_ids, samples[i].problem_id) for i in weighted}
    assigned = assign_to_ranks(weighted, [sequences[i] for i in weighted], ranks.count)[ranks.rank] if ranks else weighted
    micro_batches = []
    for planned in plan_micro_batches(
        [sequences[i] for i in assigned], budget=settings.tokens, mode=mode, can_cache_prefix=model.can_cache_prefix
    ):
        indices = [assigned[position] for position in planned.indices]
        weights, advantages = [step.per_sample[i] for i in indices], [step.advantages[i] for i in indices]
        batch_samples = [samples[index] for index in indices]
        tokens = weighted_tokens(batch_samples, weights, advantages, objectives)
        micro_batches.append(_MicroBatch(indices, planned.prefix, batch_samples, tokens))
    passes_per_batch = _equal_passes(micro_batches, scorer, ranks) if ranks is not None and is_sharded(student) else None
    timer.lap("weigh")
    results = []
    with accumulate_in_place(model.backbone):
        for number, batch in enumerate(micro_batches):
            passes = passes_per_batch[number] if passes_per_batch else ()
            teacher_states = scorer.states(batch.samples, batch.tokens, passes, groups_continue=batch.groups_continue)
            timer.lap("teacher")
            layout = build_layout([sequences[i] for i in batch.indices], pad_id=pad_id, mode=mode, prefix=batch.prefix)
            with torch.set_grad_enabled(backward):
                hidden = model.states(layout, batch.tokens.sample, batch.tokens.token)
            if backward:
                timer.lap("student")
                loss, token_results = head.differentiate(hidden, teacher_states, batch.tokens)
                timer.lap("head")
                if loss.requires_grad:  # else nothing below the head is trained
                    torch.autograd.backward(loss)
                timer.lap("backward")
            else:
                token_results = head.measure(hidden, teacher_states, batch.tokens)
            results.append((batch.indices, batch.tokens, token_results))
        model.prefix_cache.close()
    timer.lap("backward")
    if ranks is not None:
        for passes in passes_per_batch[len(micro_batches) :] if passes_per_batch else ():
            _run_dummy_batch(model, scorer, passes, backward=backward)
        if backward:
            ranks.sum_in_place(_unsharded_gradients(student))
        results = sorted((result for each in ranks.gather(results) for result in each), key=lambda result: result[0])
        timer.lap("backward")
    return build_report(samples, objectives, step, results, timer.seconds)


@dataclass(frozen=True)
class _MicroBatch:
    """Some samples, their indices in the step, the cached prefix that they continue from, and their weighted tokens."""

    indices: list[int]
    prefix: Ids
    samples: list[DistillSample]
    tokens: WeightedTokens

    @property
    def groups_continue(self) -> bool:
        """Whether other micro-batches hold more samples of the same group; only a group that was cut has a prefix."""
        return bool(self.prefix)


def _equal_passes(micro_batches: Sequence[_MicroBatch], scorer: TeacherScorer, ranks: Ranks) -> list[list[int]]:
    """Return how often every rank must run each teacher model in each micro-batch."""
    passes = [scorer.count_passes(b.samples, b.tokens, groups_continue=b.groups_continue) for b in micro_batches]
    return equalize_passes(passes, ranks)


def _run_dummy_batch(model: SplitModel, scorer: TeacherScorer, passes: Sequence[int], *, backward: bool) -> None:
    """Take part in a micro-batch that only other ranks have; the gradient is zero."""
    scorer.run_dummy_passes(passes)
    with torch.set_grad_enabled(backward):
        hidden = model.hidden(dummy_layout())
    if hidden.requires_grad:  # else nothing below the head is trained
        torch.autograd.backward(hidden.sum() * 0.0)


def _unsharded_gradients(student: nn.Module) -> list[Tensor]:
    """Return the gradients of the trainable weights that each rank holds whole; zeros where there is none yet."""
    return [
        ensure_grad(parameter)
        for parameter in student.parameters()
        if parameter.requires_grad and not isinstance(parameter, DTensor)
    ]
