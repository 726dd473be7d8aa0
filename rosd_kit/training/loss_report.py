"""What a step's loss was made of. Knows nothing of how it was computed."""

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
    """The numbers of one step; means are over the tokens that have a weight in any term, 0 when there is none.

    A loss that is not finite is reported like any other: whether to skip the update is the caller's decision.
    """

    loss: float
    """Sum over terms of factor times loss, in nats a token."""
    terms: Mapping[str, float]
    """Each term's weighted mean, before its factor."""
    tokens: int
    """How many tokens have a weight in any term."""
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
    """How each sample was scored, token by token."""
    seconds: Mapping[str, float] = field(compare=False)
    """Seconds of each part: `weigh`, `teacher`, `student` (forward), `head` (forward and gradient), `backward`."""


@dataclass(frozen=True)
class Scored:
    """What is kept of some weighted tokens once their logits are gone; without gradient.

    `current` and `taught` are the sampled tokens' log-probs under student and teacher, `entropy` and `doubt` the entropies
    of their distributions. Without a teacher `taught` and `doubt` are 0, and `doubt` is 0 where a gradient was taken.
    """

    losses: Float[Tensor, "terms tokens"]
    entropy: Float[Tensor, " tokens"]
    current: Float[Tensor, " tokens"]
    taught: Float[Tensor, " tokens"]
    doubt: Float[Tensor, " tokens"]

    @classmethod
    def empty(cls, terms: int, tokens: int, like: Tensor) -> Scored:
        """Return room for so many tokens, on the device and in the precision of `like`.

        It is made before the logits: small results left between freed large ones would keep a CPU's heap in pieces.
        """
        return cls(like.new_empty(terms, tokens), *(like.new_empty(tokens) for _ in range(4)))

    def part(self, span: slice) -> Scored:
        """Return a view of some tokens."""
        return Scored(*(getattr(self, field.name)[..., span] for field in fields(self)))

    def settled(self) -> Scored:
        """Return it in float64 on the CPU; the one place where a micro-batch waits for the device."""
        return Scored(*(getattr(self, field.name).to("cpu", torch.float64) for field in fields(self)))


def build_report(
    samples: Sequence[DistillSample],
    terms: Sequence[WeightedObjective],
    step: StepWeights,
    pieces: Sequence[tuple[Sequence[int], WeightedTokens, Scored]],
    seconds: Mapping[str, float],
) -> LossReport:
    """Add up the micro-batches, each given with its samples' places in the step, in float64."""
    sums = torch.zeros(len(terms), dtype=torch.float64)
    first = next((index for index, term in enumerate(terms) if term.objective.asks_teacher), 0)
    scores = [torch.zeros(5, len(sample.response_ids), dtype=torch.float64) for sample in samples]
    for indices, tokens, scored in pieces:
        sums += (tokens.weights * scored.losses).sum(dim=1)
        kept = torch.stack([scored.losses[first], scored.current, scored.taught, scored.entropy, scored.doubt])
        for row, index in enumerate(indices):
            mine = tokens.sample == row
            scores[index][:, tokens.token[mine]] = kept[:, mine]
    means = [float(total) / weight if weight else 0.0 for total, weight in zip(sums, step.totals, strict=True)]
    gaps = _concatenated([scored.current - tokens.behaviour for _, tokens, scored in pieces])
    ratios = gaps.exp()
    return LossReport(
        loss=sum((term.weight * mean for term, mean in zip(terms, means, strict=True)), 0.0),
        terms={term.objective.name: mean for term, mean in zip(terms, means, strict=True)},
        tokens=len(gaps),
        entropy=_mean(_concatenated([scored.entropy for _, _, scored in pieces])),
        ratio_mean=_mean(ratios),
        ratio_max=float(ratios.max()) if len(ratios) else 0.0,
        mismatch=_mean(gaps.abs()),
        teacher_gain=_mean(_concatenated([(s.taught - s.current)[t.views > 0] for _, t, s in pieces])),
        scores=[_sample_scores(rows.tolist()) for rows in scores],
        seconds=seconds,
    )


def _sample_scores(rows: list[list[float]]) -> SampleScores:
    names = ("divergence", "student", "teacher", "student_entropy", "teacher_entropy")
    return SampleScores(**{name: tuple(row) for name, row in zip(names, rows, strict=True)})


def _concatenated(tensors: list[Tensor]) -> Tensor:
    return torch.cat(tensors) if tensors else torch.zeros(0, dtype=torch.float64)


def _mean(values: Tensor) -> float:
    return float(values.mean()) if len(values) else 0.0
