"""Asks the objectives for token weights and lists the tokens that have any.

Does not know models or losses. Tensors over tokens live on the CPU; the caller moves what it needs.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields

import torch
from jaxtyping import Float, Int
from torch import Tensor

from rosd_kit.recipe.built import WeightedObjective
from rosd_kit.types import DistillSample


@dataclass(frozen=True)
class StepWeights:
    """The weight of every token of a step in every objective term, and the sums that normalise them.

    `per_sample[i]` is `[terms, response]`, `advantages[i]` is `[terms]`. `totals` are the terms' sums of weights over the whole
    step, the denominators of their losses; they are exact sums, so that the order of samples does not matter.
    """

    per_sample: list[Float[Tensor, "terms response"]]
    advantages: list[Float[Tensor, " terms"]]
    totals: list[float]

    def weighted_samples(self) -> list[int]:
        """Return the indices of the samples that have a weight in any term."""
        return [index for index, weights in enumerate(self.per_sample) if bool(weights.any())]


def compute_weights(samples: Sequence[DistillSample], terms: Sequence[WeightedObjective]) -> StepWeights:
    """Ask every objective for the token weights and the advantage of every sample."""
    per_sample, advantages = [], []
    for sample in samples:
        rows = [list(term.objective.token_weights(sample)) for term in terms]
        assert all(len(row) == len(sample.response_ids) for row in rows), "an objective returned a wrong number of weights"
        weights = torch.tensor(rows, dtype=torch.float64).reshape(len(terms), len(sample.response_ids))
        assert bool((weights >= 0).all()), "an objective returned a negative weight"
        per_sample.append(weights)
        advantages.append(torch.tensor([term.objective.advantage(sample) for term in terms], dtype=torch.float64))
    totals = [math.fsum(_chain(weights[term].tolist() for weights in per_sample)) for term in range(len(terms))]
    return StepWeights(per_sample, advantages, _denominators(totals, per_sample, terms))


def _denominators(
    totals: list[float], per_sample: Sequence[Float[Tensor, "terms response"]], terms: Sequence[WeightedObjective]
) -> list[float]:
    """Return the totals; for a term that counts by its share of the tokens, the total divided by that share."""
    if not any(term.by_share for term in terms):
        return totals
    tokens = sum(int(weights.any(dim=0).sum()) for weights in per_sample)
    counts = [sum(int((weights[index] > 0).sum()) for weights in per_sample) for index in range(len(terms))]
    return [
        total * tokens / count if term.by_share and count else total
        for total, count, term in zip(totals, counts, terms, strict=True)
    ]


def _chain(lists: Iterable[list[float]]) -> Iterable[float]:
    return (value for values in lists for value in values)


@dataclass(frozen=True)
class WeightedTokens:
    """The tokens of a micro-batch that have a weight in any term, sample by sample.

    `sample` is the index of each token's sample in the micro-batch, `token` its index in the response, `sampled` its id.
    `views` is how many teacher views score it: 0 where no term that needs a teacher covers the token. `marks` are the marks of
    views by terms that join views, 0 elsewhere; without such a term the `views` dimension is empty. `old` are the log-probs
    before the step's first update, NaN where they were not measured.
    """

    sample: Int[Tensor, " tokens"]
    token: Int[Tensor, " tokens"]
    sampled: Int[Tensor, " tokens"]
    behaviour: Float[Tensor, " tokens"]
    views: Int[Tensor, " tokens"]
    weights: Float[Tensor, "terms tokens"]
    advantages: Float[Tensor, "terms tokens"]
    marks: Float[Tensor, "terms views tokens"]
    old: Float[Tensor, " tokens"]

    def __len__(self) -> int:
        return len(self.sample)

    def select(self, span: slice) -> WeightedTokens:
        """Return a span of the tokens."""
        return WeightedTokens(**{field.name: getattr(self, field.name)[..., span] for field in fields(self)})


def weighted_tokens(
    samples: Sequence[DistillSample],
    weights: Sequence[Float[Tensor, "terms response"]],
    advantages: Sequence[Float[Tensor, " terms"]],
    terms: Sequence[WeightedObjective],
) -> WeightedTokens:
    """List the weighted tokens of one micro-batch."""
    lengths = torch.tensor([len(sample.response_ids) for sample in samples])
    all_weights = torch.cat(list(weights), dim=1)
    kept = all_weights.any(dim=0).nonzero().squeeze(1)
    owner = torch.arange(len(samples)).repeat_interleave(lengths)[kept]
    start = (lengths.cumsum(0) - lengths)[owner]
    needs_teacher = torch.tensor([term.objective.asks_teacher for term in terms], dtype=torch.bool)
    views = torch.tensor([len(sample.teacher_views) for sample in samples])[owner]
    return WeightedTokens(
        sample=owner,
        token=kept - start,
        sampled=torch.tensor(list(_chain(list(s.response_ids) for s in samples)), dtype=torch.long)[kept],
        behaviour=torch.tensor(list(_chain(list(s.behaviour_logprobs) for s in samples)), dtype=torch.float64)[kept],
        views=views * all_weights[needs_teacher][:, kept].any(dim=0),
        weights=all_weights[:, kept],
        advantages=torch.stack(list(advantages), dim=1)[:, owner],
        marks=_view_marks(samples, terms)[..., owner],
        old=torch.tensor(list(_chain(_old_logprobs(s) for s in samples)), dtype=torch.float64)[kept],
    )


def _old_logprobs(sample: DistillSample) -> list[float]:
    return list(sample.old_logprobs) or [math.nan] * len(sample.response_ids)


def _view_marks(samples: Sequence[DistillSample], terms: Sequence[WeightedObjective]) -> Float[Tensor, "terms views samples"]:
    joining = [index for index, term in enumerate(terms) if term.objective.joins_views]
    most_views = max((len(sample.teacher_views) for sample in samples), default=0) if joining else 0
    all_marks = torch.zeros(len(terms), most_views, len(samples), dtype=torch.float64)
    for term in joining:
        for index, sample in enumerate(samples):
            marks = torch.tensor(list(terms[term].objective.view_marks(sample)), dtype=torch.float64)
            assert len(marks) == len(sample.teacher_views), "an objective must mark every view of a sample"
            assert bool(marks.all()), "an objective marked a view with 0, which means that there is no view"
            all_marks[term, : len(marks), index] = marks
    return all_marks
