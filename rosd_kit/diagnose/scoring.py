"""Scores every token of some responses by student and teacher, with several divergences and supports at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from rosd_kit.components.corrections.none import NoCorrection
from rosd_kit.components.divergences.forward_kl import ForwardKL
from rosd_kit.components.divergences.reverse_kl import ReverseKL
from rosd_kit.components.objectives.distill import Distill
from rosd_kit.components.supports.full import Full
from rosd_kit.components.supports.sampled import Sampled
from rosd_kit.contracts import Divergence, LossParts, Support, TeacherModel
from rosd_kit.model.packing import TokenSequence, build_layout, plan_micro_batches
from rosd_kit.model.split import split_model
from rosd_kit.model.student import Student
from rosd_kit.recipe.built import BuiltComponents, WeightedObjective
from rosd_kit.settings import BatchSettings
from rosd_kit.training.chunked_loss import HeadLoss
from rosd_kit.training.teacher import TeacherScorer
from rosd_kit.training.token_weights import compute_weights, weighted_tokens
from rosd_kit.types import DistillSample


@dataclass(frozen=True, kw_only=True)
class TokenTable:
    """What was measured at each token of one response, in nats; every row is as long as the response."""

    measures: Mapping[str, tuple[float, ...]]
    student_entropy: tuple[float, ...]
    teacher_entropy: tuple[float, ...]


def measures_of(components: BuiltComponents) -> dict[str, Distill]:
    """Return what to measure: the KL of the teacher from the student, the recipe's loss, and its divergence on other supports.

    `loss` has the options of the recipe's `distill` term, if it has one, and no importance weights. On the support `sampled`, a
    divergence that cannot be estimated from one sample is replaced by the reverse KL.
    """
    terms = [term.objective for term in components.objectives if isinstance(term.objective, Distill)]
    support, divergence = components.support, components.divergence
    by_sample = divergence if "sampled" in divergence.provides else ReverseKL()
    return {
        "kl": _measure(Full(), ForwardKL()),
        "loss": _measure(support, divergence, terms[0].config if terms else None),
        "full": _measure(Full(), by_sample if support.name == "sampled" else divergence),
        "sampled": _measure(Sampled(), by_sample),
    }


def _measure(support: Support, divergence: Divergence, config: object = None) -> Distill:
    parts = LossParts(support=support, divergence=divergence, correction=NoCorrection())
    return Distill(Distill.Config() if config is None else config, parts)


@torch.no_grad()
def score_tokens(
    samples: Sequence[DistillSample],
    measures: Mapping[str, Distill],
    *,
    student: Student,
    teacher_models: Sequence[TeacherModel],
    settings: BatchSettings,
) -> list[TokenTable]:
    """Return the token table of each sample; a sample's token weights must be 1, and it must have a teacher view.

    Works like a training step without its gradient: in the same micro-batches and chunks. Divergences are means over the
    sample's teacher views.
    """
    terms = [WeightedObjective(objective) for objective in measures.values()]
    step, parts, pad_id = compute_weights(samples, terms), split_model(student.model), student.pad_id
    scorer = TeacherScorer(teacher_models, settings=settings, pad_id=pad_id, samples=samples)
    head = HeadLoss(
        student=parts,
        teacher=scorer,
        terms=tuple(terms),
        factors=torch.ones(len(terms), dtype=torch.float64),
        chunk_bytes=settings.chunk_mib << 20,
        temperature=1.0,
    )
    sequences = [TokenSequence(one.prompt_ids, one.response_ids, one.problem_id) for one in samples]
    mode = parts.layout_mode(settings.layout)
    tables: dict[int, TokenTable] = {}
    student.model.eval()
    for planned in plan_micro_batches(sequences, budget=settings.tokens, mode=mode, can_cache_prefix=parts.can_cache_prefix):
        batch = [samples[i] for i in planned.indices]
        tokens = weighted_tokens(
            batch, [step.per_sample[i] for i in planned.indices], [step.advantages[i] for i in planned.indices], terms
        )
        states = scorer.states(batch, tokens, groups_continue=bool(planned.prefix))
        layout = build_layout([sequences[i] for i in planned.indices], pad_id=pad_id, mode=mode, prefix=planned.prefix)
        results = head.measure(parts.states(layout, tokens.sample, tokens.token), states, tokens)
        for position, index in enumerate(planned.indices):
            mine = tokens.sample == position
            tables[index] = TokenTable(
                measures={name: _row(results.losses[i, mine]) for i, name in enumerate(measures)},
                student_entropy=_row(results.student_entropy[mine]),
                teacher_entropy=_row(results.teacher_entropy[mine]),
            )
    parts.prefix_cache.close()
    return [tables[index] for index in range(len(samples))]


def _row(values: Tensor) -> tuple[float, ...]:
    return tuple(values.tolist())
