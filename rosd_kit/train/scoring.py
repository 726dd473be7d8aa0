"""The engine: the loss of a whole step and its gradient, in pieces that fit the memory.

    samples -> micro-batches -> hidden states -> chunks of weighted tokens -> logits -> objectives
                 (backbone)                        (head, student and teacher)

The backbone runs once a micro-batch. The head runs only on tokens that have a weight, chunk by chunk (`chunks.py`), and
the loss of a chunk is differentiated inside it: logits never outlive their chunk. One backward pass then takes the
collected gradient through the backbone. Every term has one denominator, the
sum of its weights over all samples of the step, so loss and gradient are the same however the step is cut (up to
rounding, and but for dropout). Knows nothing of optimizers or of any method.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from rosd_kit.contracts import Expert
from rosd_kit.parts import WeightedObjective
from rosd_kit.settings import BatchSettings
from rosd_kit.train.batch import weigh, weighted_tokens
from rosd_kit.train.chunks import HeadLoss
from rosd_kit.train.clock import Clock
from rosd_kit.train.head import split
from rosd_kit.train.layout import Text, lay_out, plan
from rosd_kit.train.report import LossReport, build_report
from rosd_kit.train.teaching import TeacherScorer
from rosd_kit.types import DistillSample

__all__ = ["LossReport", "backward_step"]


def backward_step(
    *,
    student: nn.Module,
    experts: Sequence[Expert],
    samples: Sequence[DistillSample],
    objectives: Sequence[WeightedObjective],
    settings: BatchSettings,
    pad_id: int,
    temperature: float = 1.0,
    backward: bool = True,
) -> LossReport:
    """Add the gradient of a whole step's loss to the parameters' `.grad` and return what the loss was made of.

    Called once a step, inside `Teacher.scoring`. The student runs in the mode, train or eval, that it is in. The
    teacher is the share-weighted sum of the experts' logits; where a sample has several teacher views, a token's loss
    is the mean over them. `temperature` is the one the rollouts were sampled at: importance ratios are taken there,
    where the behaviour log-probs were; entropies and divergences are at temperature 1. `backward=False` only measures.

    Raises `RunError` when student and teacher have different vocabularies.
    """
    assert all(sample.prompt_ids for sample in samples), "a response without a prompt has no first logit"
    assert len({term.objective.name for term in objectives}) == len(objectives), "two objective terms of one name"
    step = weigh(samples, objectives)
    model = split(student)
    mode = model.mode(settings.layout)
    scorer = TeacherScorer(experts, settings=settings, pad_id=pad_id)
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
    covered = step.covered()
    pieces, clock = [], Clock()
    texts = [Text(samples[i].prompt_ids, samples[i].response_ids, samples[i].problem_id) for i in covered]
    for group in plan(texts, budget=settings.tokens, mode=mode):
        indices = [covered[place] for place in group]
        chosen = [samples[index] for index in indices]
        weights, advantages = [step.per_sample[i] for i in indices], [step.advantages[i] for i in indices]
        tokens = weighted_tokens(chosen, weights, advantages, objectives)
        clock.lap("weigh")
        taught = scorer.states(chosen, tokens)
        clock.lap("teacher")
        layout = lay_out([texts[place] for place in group], pad_id=pad_id, mode=mode)
        with torch.set_grad_enabled(backward):
            hidden = model.states(layout, tokens.sample, tokens.token)
        if backward:
            clock.lap("student")
            loss, scored = head.differentiate(hidden, taught, tokens)
            clock.lap("head")
            torch.autograd.backward(loss)
            clock.lap("backward")
        else:
            scored = head.measure(hidden, taught, tokens)
        pieces.append((indices, tokens, scored))
    return build_report(samples, objectives, step, pieces, clock.seconds)
