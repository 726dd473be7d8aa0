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
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from rosd_kit.contracts import TeacherModel
from rosd_kit.model.packing import LayoutMode, TokenSequence, build_layout, dummy_layout, plan_micro_batches
from rosd_kit.model.prefix_tree import Ids
from rosd_kit.model.split import SplitModel, split_model
from rosd_kit.parallel.fsdp import is_sharded
from rosd_kit.parallel.ranks import Ranks
from rosd_kit.recipe.built import WeightedObjective
from rosd_kit.settings import BatchSettings
from rosd_kit.training.balancing import assign_to_ranks, equalize_passes
from rosd_kit.training.chunked_loss import HeadLoss
from rosd_kit.training.grad_accumulation import accumulate_in_place, ensure_grad
from rosd_kit.training.loss_report import LossReport, TokenResults, build_report
from rosd_kit.training.teacher import TeacherScorer
from rosd_kit.training.timer import Timer
from rosd_kit.training.token_weights import StepWeights, WeightedTokens, compute_weights, weighted_tokens
from rosd_kit.types import DistillSample

__all__ = ["LossReport", "backward_step"]

#: The indices of a micro-batch's samples in the step, their weighted tokens and the results of these.
_Results = tuple[list[int], WeightedTokens, TokenResults]


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
    weighted = step.weighted_samples()
    scorer = TeacherScorer(teacher_models, settings=settings, pad_id=pad_id, samples=[samples[i] for i in weighted])
    head = HeadLoss(
        student=model,
        teacher=scorer,
        terms=tuple(objectives),
        factors=_loss_factors(objectives, step),
        chunk_bytes=settings.chunk_mib << 20,
        temperature=temperature,
    )
    runner = _MicroBatchRunner(model, head, model.layout_mode(settings.layout), pad_id, Timer(), backward=backward)
    micro_batches = _micro_batches(samples, weighted, step, objectives, settings, model, ranks)
    passes = _equal_passes(micro_batches, scorer, ranks) if ranks is not None and is_sharded(student) else []
    runner.timer.lap("weigh")
    with accumulate_in_place(model.backbone):
        results = [runner.run(batch, passes[number] if passes else ()) for number, batch in enumerate(micro_batches)]
        model.prefix_cache.close()
    runner.timer.lap("backward")
    if ranks is not None:
        for missing in passes[len(micro_batches) :]:
            runner.run_dummy(missing)
        if backward:
            ranks.sum_in_place(_unsharded_gradients(student))
        results = sorted((result for each in ranks.gather(results) for result in each), key=lambda result: result[0])
        runner.timer.lap("backward")
    return build_report(samples, objectives, step, results, runner.timer.seconds)


def _loss_factors(objectives: Sequence[WeightedObjective], step: StepWeights) -> Float[Tensor, " terms"]:
    """Return what turns the token weights of each term into shares of the loss."""
    factors = [term.weight / (total or 1.0) for term, total in zip(objectives, step.totals, strict=True)]
    return torch.tensor(factors, dtype=torch.float64)


@dataclass(frozen=True)
class _MicroBatch:
    """Some samples, their indices in the step, the cached prefix that they continue from, and their tokens."""

    indices: list[int]
    prefix: Ids
    samples: list[DistillSample]
    sequences: list[TokenSequence]
    tokens: WeightedTokens

    @property
    def groups_continue(self) -> bool:
        """Whether other micro-batches hold more samples of the same group; only a group that was cut has a prefix."""
        return bool(self.prefix)


def _micro_batches(
    samples: Sequence[DistillSample],
    weighted: Sequence[int],
    step: StepWeights,
    objectives: Sequence[WeightedObjective],
    settings: BatchSettings,
    model: SplitModel,
    ranks: Ranks | None,
) -> list[_MicroBatch]:
    """Cut the samples that have a weight, or this rank's share of them, into micro-batches."""
    sequences = [TokenSequence(samples[i].prompt_ids, samples[i].response_ids, samples[i].problem_id) for i in weighted]
    by_index = dict(zip(weighted, sequences, strict=True))
    assigned = assign_to_ranks(weighted, sequences, ranks.count)[ranks.rank] if ranks else weighted
    micro_batches = []
    for plan in plan_micro_batches(
        [by_index[i] for i in assigned],
        budget=settings.tokens,
        mode=model.layout_mode(settings.layout),
        can_cache_prefix=model.can_cache_prefix,
    ):
        indices = [assigned[position] for position in plan.indices]
        weights, advantages = [step.per_sample[i] for i in indices], [step.advantages[i] for i in indices]
        selected = [samples[i] for i in indices]
        tokens = weighted_tokens(selected, weights, advantages, objectives)
        micro_batches.append(_MicroBatch(indices, plan.prefix, selected, [by_index[i] for i in indices], tokens))
    return micro_batches


@dataclass(frozen=True)
class _MicroBatchRunner:
    """Runs micro-batches; with `backward`, each adds its gradient to the parameters' `.grad`."""

    model: SplitModel
    head: HeadLoss
    mode: LayoutMode
    pad_id: int
    timer: Timer
    backward: bool = field(kw_only=True)

    def run(self, batch: _MicroBatch, passes: Sequence[int]) -> _Results:
        """Return the results of a micro-batch; `passes` is how often each teacher model must run at least."""
        tokens = batch.tokens
        teacher = self.head.teacher.states(batch.samples, tokens, passes, groups_continue=batch.groups_continue)
        self.timer.lap("teacher")
        layout = build_layout(batch.sequences, pad_id=self.pad_id, mode=self.mode, prefix=batch.prefix)
        with torch.set_grad_enabled(self.backward):
            hidden = self.model.states(layout, tokens.sample, tokens.token)
        if not self.backward:
            return batch.indices, tokens, self.head.measure(hidden, teacher, tokens)
        self.timer.lap("student")
        loss, results = self.head.differentiate(hidden, teacher, tokens)
        self.timer.lap("head")
        if loss.requires_grad:  # else nothing below the head is trained
            torch.autograd.backward(loss)
        self.timer.lap("backward")
        return batch.indices, tokens, results

    def run_dummy(self, passes: Sequence[int]) -> None:
        """Take part in a micro-batch that only other ranks have; the gradient is zero."""
        self.head.teacher.run_dummy_passes(passes)
        with torch.set_grad_enabled(self.backward):
            hidden = self.model.hidden(dummy_layout())
        if hidden.requires_grad:  # else nothing below the head is trained
            torch.autograd.backward(hidden.sum() * 0.0)


def _equal_passes(micro_batches: Sequence[_MicroBatch], scorer: TeacherScorer, ranks: Ranks) -> list[list[int]]:
    """Return how often every rank must run each teacher model in each micro-batch."""
    passes = [scorer.count_passes(b.samples, b.tokens, groups_continue=b.groups_continue) for b in micro_batches]
    return equalize_passes(passes, ranks)


def _unsharded_gradients(student: nn.Module) -> list[Tensor]:
    """Return the gradients of the trainable weights that each rank holds whole; zeros where there is none yet."""
    return [
        ensure_grad(parameter)
        for parameter in student.parameters()
        if parameter.requires_grad and not isinstance(parameter, DTensor)
    ]
