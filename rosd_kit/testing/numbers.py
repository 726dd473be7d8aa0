"""Logits, logprobs and scores that losses are tried with: ordinary ones, and those at the limits of floating point."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from rosd_kit.contracts import TokenScores

Pair = tuple[Tensor, Tensor]

_IMPOSSIBLE = -float("inf")


def random_logits(seed: int, tokens: int = 4, size: int = 12, scale: float = 2.0) -> Tensor:
    """Return float32 logits `[tokens, size]` that depend only on the seed."""
    return torch.randn(tokens, size, generator=torch.Generator().manual_seed(seed)) * scale


def ordinary_pairs() -> dict[str, Pair]:
    """Return (student, teacher) logits as they occur in training, keyed by what is special about each pair."""
    return {
        "ordinary logits": (random_logits(1), random_logits(2)),
        "a confident student": (random_logits(3, scale=8.0), random_logits(4)),
        "a confident teacher": (random_logits(5), random_logits(6, scale=8.0)),
        "one token": (random_logits(7, tokens=1), random_logits(8, tokens=1)),
        "a small vocabulary": (random_logits(9, size=3), random_logits(10, size=3)),
        "a large vocabulary": (random_logits(11, tokens=2, size=3000), random_logits(12, tokens=2, size=3000)),
    }


def extreme_pairs() -> dict[str, Pair]:
    """Return (student, teacher) logits that overflow, underflow or give probabilities of exactly 0."""
    huge = torch.tensor([[0.0, 1e4, -1e4], [1e4, 0.0, 0.0], [0.0, 0.0, 0.0]])
    masked = torch.tensor([[0.0, _IMPOSSIBLE, _IMPOSSIBLE], [_IMPOSSIBLE, 0.0, 1.0], [0.0, 1.0, _IMPOSSIBLE]])
    return {
        "logits of 10000": (huge, huge.flip(-1)),
        "probabilities of 0": (masked, masked.flip(-1)),
        "a probability of 0 for the student only": (masked, huge),
        "a probability of 0 for the teacher only": (huge, masked),
        "equal and certain": (masked, masked.clone()),
        "bfloat16": (random_logits(13).bfloat16(), random_logits(14).bfloat16()),
    }


def log_probs(pair: Pair) -> Pair:
    """Return the logprobs of a pair of logits."""
    return pair[0].log_softmax(-1), pair[1].log_softmax(-1)


def fake_scores(
    *, tokens: int = 4, size: int = 12, seed: int = 0, behaviour_gap: float = 0.1, advantage: float = 1.0, teacher: bool = True
) -> TokenScores:
    """Return a chunk of scored tokens as objectives receive it; gradients of `student` and `current` reach the same logits.

    `behaviour` is `current` minus `behaviour_gap`, in nats, at every token.
    """
    student = random_logits(seed, tokens, size).requires_grad_().log_softmax(-1)
    sampled = torch.randint(size, (tokens,), generator=torch.Generator().manual_seed(seed))
    current = student.gather(1, sampled[:, None]).squeeze(1)
    return TokenScores(
        student=student,
        teacher=random_logits(seed + 1, tokens, size).log_softmax(-1) if teacher else None,
        sampled=sampled,
        behaviour=current.detach() - behaviour_gap,
        current=current,
        advantage=torch.full((tokens,), advantage),
    )


def extreme_scores() -> dict[str, TokenScores]:
    """Return chunks whose ratios, advantages or logprobs are as extreme as a bad step makes them."""
    logits, teacher = torch.tensor([[0.0, 1e4, -1e4], [0.0, 0.0, 0.0]]), torch.tensor([[1e4, 0.0, 0.0], [0.0, -1e4, 1e4]])
    student = logits.requires_grad_().log_softmax(-1)
    sampled = torch.tensor([2, 1])
    current = student.gather(1, sampled[:, None]).squeeze(1)
    saturated = TokenScores(
        student=student, teacher=teacher.log_softmax(-1), sampled=sampled, behaviour=torch.full((2,), -0.1), current=current,
        advantage=torch.ones(2),
    )  # fmt: skip
    return {
        "a policy that fell by 80 nats": fake_scores(behaviour_gap=-80.0),
        "a policy that rose by 80 nats": fake_scores(behaviour_gap=80.0),
        "a policy that rose by 80 nats with a negative advantage": fake_scores(behaviour_gap=80.0, advantage=-5.0),
        "an advantage of 0": fake_scores(advantage=0.0),
        "logits of 10000": saturated,
        "logits of 10000 and a negative advantage": replace(saturated, advantage=-torch.ones(2)),
    }


def rows(scores: TokenScores, indices: Tensor) -> TokenScores:
    """Return a chunk with only the tokens at these indices."""
    return TokenScores(
        student=scores.student[indices],
        teacher=scores.teacher[indices] if scores.teacher is not None else None,
        sampled=scores.sampled[indices],
        behaviour=scores.behaviour[indices],
        current=scores.current[indices],
        advantage=scores.advantage[indices],
    )
