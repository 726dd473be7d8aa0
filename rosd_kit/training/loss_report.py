"""The components of a step's loss, as reported. Does not know how they are computed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields

import torch
from jaxtyping import Float
from torch import Tensor

from rosd_kit.recipe.built import WeightedObjective
from rosd_kit.training.token_weights import StepWeights, WeightedTokens
from rosd_kit.types import DistillSample, SampleScores


@dataclass(frozen=True, kw_only=True)
class LossReport:
    """The numbers of one step. Means are over the tokens that have a weight in any term, and 0 when there are none.

    A loss that is not finite is reported like any other; the caller decides whether to skip the update.
    """

    loss: float
    """Sum over terms of factor times loss, in nats per token."""
    terms: Mapping[str, float]
    """Each term's weighted mean, before its factor."""
    tokens: int
    """Number of tokens that have a weight in any term."""
    entropy: float
    """Mean entropy of the student's distribution at temperature 1, in nats."""
    ratio_mean: float
    """Mean importance ratio, current over behaviour, at the sampling temperature, before any truncation."""
    ratio_max: float
    """Largest importance ratio."""
    mismatch: float
    """Mean |log p of the trainer - log p of the engine| of the sampled tokens, in nats."""
    teacher_gain: float
    """Mean of log p(teacher) - log p(student) of the sampled tokens that a teacher scored, in nats."""
    scores: list[SampleScores]
    """The scores of each sample, token by token."""
    seconds: Mapping[str, float] = field(compare=False)
    """Seconds per phase: `weigh`, `teacher`, `student` (forward), `head` (forward and gradient), `backward`."""


@dataclass(frozen=True)
class TokenResults:
    """What is kept of some weighted tokens once their logits are gone; without gradient.

    `student_logprobs` are those of the sampled tokens at the sampling temperature, `teacher_logprobs` their mean over the
    teacher's views. Entropies are in nats. The teacher's values are 0 where there is no teacher; its entropy is also 0 where a
    gradient was computed.
    """

    losses: Float[Tensor, "terms tokens"]
    student_entropy: Float[Tensor, " tokens"]
    student_logprobs: Float[Tensor, " tokens"]
    teacher_logprobs: Float[Tensor, " tokens"]
    teacher_entropy: Float[Tensor, " tokens"]

    @classmethod
    def empty(cls, terms: int, tokens: int, like: Tensor) -> TokenResults:
        """Allocate results for so many tokens, on the device and in the precision of `like`.

        Allocate them before the logits: small tensors between freed large ones would fragment a CPU's heap.
        """
        return cls(like.new_empty(terms, tokens), *(like.new_empty(tokens) for _ in range(4)))

    def select(self, span: slice) -> TokenResults:
        """Return a view of a span of the tokens."""
        return TokenResults(*(getattr(self, field.name)[..., span] for field in fields(self)))

    def to_cpu(self) -> TokenResults:
        """Return the results in float64 on the CPU; the only point of a micro-batch that waits for the device."""
        return TokenResults(*(getattr(self, field.name).to("cpu", torch.float64) for field in fields(self)))


def build_report(
    samples: Sequence[DistillSample],
    terms: Sequence[WeightedObjective],
    step: StepWeights,
    micro_batches: Sequence[tuple[Sequence[int], WeightedTokens, TokenResults]],
    seconds: Mapping[str, float],
) -> LossReport:
    """Combine the micro-batches, each given with its samples' indices in the step, in float64."""
    sums = torch.zeros(len(terms), dtype=torch.float64)
    divergence_term = next((index for index, term in enumerate(terms) if term.objective.asks_teacher), 0)
    scores = [torch.zeros(5, len(sample.response_ids), dtype=torch.float64) for sample in samples]
    for indices, tokens, results in micro_batches:
        sums += (tokens.weights * results.losses).sum(dim=1)
        rows = torch.stack(
            [
                results.losses[divergence_term],
                results.student_logprobs,
                results.teacher_logprobs,
                results.student_entropy,
                results.teacher_entropy,
            ]
        )
        for position, index in enumerate(indices):
            mine = tokens.sample == position
            scores[index][:, tokens.token[mine]] = rows[:, mine]
    means = [float(total) / weight if weight else 0.0 for total, weight in zip(sums, step.totals, strict=True)]
    gaps = _concatenate([results.student_logprobs - tokens.behaviour for _, tokens, results in micro_batches])
    ratios = gaps.exp()
    gains = [(r.teacher_logprobs - r.student_logprobs)[tokens.views > 0] for _, tokens, r in micro_batches]
    return LossReport(
        loss=sum((term.weight * mean for term, mean in zip(terms, means, strict=True)), 0.0),
        terms={term.objective.name: mean for term, mean in zip(terms, means, strict=True)},
        tokens=len(gaps),
        entropy=_mean(_concatenate([results.student_entropy for _, _, results in micro_batches])),
        ratio_mean=_mean(ratios),
        ratio_max=float(ratios.max()) if len(ratios) else 0.0,
        mismatch=_mean(gaps.abs()),
        teacher_gain=_mean(_concatenate(gains)),
        scores=[_sample_scores(rows.tolist()) for rows in scores],
        seconds=seconds,
    )


def _sample_scores(rows: list[list[float]]) -> SampleScores:
    names = ("divergence", "student", "teacher", "student_entropy", "teacher_entropy")
    return SampleScores(**{name: tuple(row) for name, row in zip(names, rows, strict=True)})


def _concatenate(tensors: list[Tensor]) -> Tensor:
    return torch.cat(tensors) if tensors else torch.zeros(0, dtype=torch.float64)


def _mean(values: Tensor) -> float:
    return float(values.mean()) if len(values) else 0.0
