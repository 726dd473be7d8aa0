"""The engine: the loss of a whole step and its gradient, in pieces that fit the memory.

    samples -> micro-batches -> hidden states -> chunks of weighted tokens -> logits -> objectives
                 (backbone)                        (head, student and teacher)

The backbone runs once a micro-batch. The head runs only on tokens that have a weight, chunk by chunk, and the loss of a
chunk is differentiated inside it, down to the hidden states and the head's parameters: logits never outlive their
chunk. One backward pass then takes the collected gradient through the backbone. Every term has one denominator, the
sum of its weights over all samples of the step, so loss and gradient are the same however the step is cut (up to
rounding, and but for dropout). Knows nothing of optimizers or of any method.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from rosd_kit.contracts import Expert, TokenScores
from rosd_kit.parts import WeightedObjective
from rosd_kit.settings import BatchSettings
from rosd_kit.train.batch import WeightedTokens, cut, student_sequence, take, weigh, weighted_tokens
from rosd_kit.train.head import SplitModel, split
from rosd_kit.train.report import LossReport, Scored, build_report
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
    scorer = _Scorer(
        student=split(student),
        teacher=TeacherScorer(experts, budget=settings.tokens, pad_id=pad_id),
        terms=tuple(objectives),
        factors=torch.tensor(
            [term.weight / (total or 1.0) for term, total in zip(objectives, step.totals, strict=True)],
            dtype=torch.float64,
        ),
        settings=settings,
        pad_id=pad_id,
        temperature=temperature,
        backward=backward,
    )
    covered = step.covered()
    pieces = []
    for group in cut([len(student_sequence(samples[index])) for index in covered], settings.tokens):
        indices = [covered[place] for place in group]
        chosen = [samples[index] for index in indices]
        weights, advantages = [step.per_sample[i] for i in indices], [step.advantages[i] for i in indices]
        tokens = weighted_tokens(chosen, weights, advantages, objectives)
        pieces.append((indices, tokens, scorer.micro_batch(chosen, tokens)))
    return build_report(samples, objectives, step, pieces)


@dataclass(frozen=True, kw_only=True)
class _Scorer:
    """What stays the same over the micro-batches of a step. `factors` turn a weight into its share of the loss."""

    student: SplitModel
    teacher: TeacherScorer
    terms: tuple[WeightedObjective, ...]
    factors: Float[Tensor, " terms"]
    settings: BatchSettings
    pad_id: int
    temperature: float
    backward: bool

    def micro_batch(self, samples: Sequence[DistillSample], tokens: WeightedTokens) -> Scored:
        """Score one micro-batch and, if wanted, take the gradient through head and backbone."""
        teacher = self.teacher.states(samples, tokens)
        sequences = [student_sequence(sample) for sample in samples]
        prompts = [len(sample.prompt_ids) for sample in samples]
        with torch.set_grad_enabled(self.backward):
            hidden = self.student.states(sequences, prompts, tokens.sample, tokens.token, pad_id=self.pad_id)
        inputs = [hidden.detach(), *(self.student.head_parameters() if self.backward else ())]
        gradients = [torch.zeros_like(tensor) for tensor in inputs] if self.backward else []
        scored, size = [], self._chunk_size(inputs[0])
        for start in range(0, len(tokens), size):
            part = slice(start, start + size)
            states = inputs[0][part].requires_grad_(self.backward)
            loss, piece = self._chunk(states, [[h[part] for h in view] for view in teacher], tokens.part(part))
            scored.append(piece)
            if loss.requires_grad:
                found = torch.autograd.grad(loss, [states, *inputs[1:]], allow_unused=True)
                _add([gradients[0][part], *gradients[1:]], found)
        if self.backward:
            pairs = zip([hidden, *inputs[1:]], gradients, strict=True)
            roots, seeds = zip(*[pair for pair in pairs if pair[0].requires_grad], strict=True)
            torch.autograd.backward(roots, seeds)
        return Scored(*(torch.cat(tensors, dim=-1) for tensors in zip(*map(_fields, scored), strict=True)))

    def _chunk_size(self, states: Float[Tensor, "tokens hidden"]) -> int:
        """Return how many tokens' logits fit into `chunk_mib`."""
        with torch.no_grad():
            logits = self.student.logits(states[:1])
        return max(1, self.settings.chunk_mib * 2**20 // (logits.shape[1] * logits.element_size()))

    def _chunk(
        self, states: Float[Tensor, "tokens hidden"], teacher: list[list[Tensor]], tokens: WeightedTokens
    ) -> tuple[Float[Tensor, ""], Scored]:
        """Return the chunk's share of the loss, and what to keep for the report."""
        with torch.set_grad_enabled(self.backward):
            logp = self.student.logits(states).log_softmax(-1)
            scores = self._scores(logp, tokens)
            losses = self._losses(scores, teacher, tokens)
            shares = (tokens.weights * self.factors[:, None]).to(logp)
            loss = (shares * losses).sum()
        plain = logp.detach()
        # exp(-inf) * finfo.min is 0 where exp(-inf) * -inf is not a number
        entropy = -(plain.exp() * plain.clamp_min(torch.finfo(plain.dtype).min)).sum(-1)
        kept = (losses, entropy, scores.current)
        return loss, Scored(*(tensor.detach().to("cpu", torch.float64) for tensor in kept))

    def _scores(self, logp: Float[Tensor, "tokens vocab"], tokens: WeightedTokens) -> TokenScores:
        """Return the scores of all tokens of a chunk, without a teacher and with advantages yet to be filled in."""
        sampled = tokens.sampled.to(logp.device)
        current = logp.gather(1, sampled[:, None]).squeeze(1)
        if self.temperature != 1.0:
            current = current / self.temperature - (logp / self.temperature).logsumexp(-1)
        behaviour = tokens.behaviour.to(logp)
        return TokenScores(logp, None, sampled, behaviour, current, torch.zeros_like(behaviour))

    def _losses(
        self, scores: TokenScores, teacher: list[list[Tensor]], tokens: WeightedTokens
    ) -> Float[Tensor, "terms tokens"]:
        """Ask every objective for the losses of the tokens it covers; 0 elsewhere."""
        losses = [torch.zeros_like(scores.current) for _ in self.terms]
        plain = [index for index, term in enumerate(self.terms) if not term.objective.needs_teacher]
        taught = [index for index, term in enumerate(self.terms) if term.objective.needs_teacher]
        for index in plain:
            rows = tokens.weights[index].nonzero().squeeze(1)
            losses[index] = self._term(index, scores, None, rows, tokens)
        for view, states in enumerate(teacher):
            wanted = (tokens.views > view).nonzero().squeeze(1)
            logp = self.teacher.logp([take(h, wanted) for h in states], scores.student.shape[1])
            for index in taught:
                inside = tokens.weights[index, wanted].nonzero().squeeze(1)
                found = self._term(index, scores, take(logp, inside), wanted[inside], tokens)
                losses[index] = losses[index] + found / tokens.views.clamp_min(1).to(found)
        return torch.stack(losses)

    def _term(
        self,
        index: int,
        scores: TokenScores,
        teacher: Tensor | None,
        rows: Int[Tensor, " rows"],
        tokens: WeightedTokens,
    ) -> Float[Tensor, " tokens"]:
        """Return one objective's losses on some rows of a chunk, 0 on the others."""
        if len(rows) == 0:
            return torch.zeros_like(scores.behaviour)
        found = self.terms[index].objective.per_token(
            TokenScores(
                student=take(scores.student, rows),
                teacher=teacher,
                sampled=take(scores.sampled, rows),
                behaviour=take(scores.behaviour, rows),
                current=take(scores.current, rows),
                advantage=tokens.advantages[index, rows].to(scores.behaviour),
            )
        )
        if len(rows) == len(tokens):
            return found
        return torch.zeros_like(scores.behaviour).index_copy(0, rows.to(found.device), found)


def _add(totals: Sequence[Tensor], found: Sequence[Tensor | None]) -> None:
    """Add gradients in place; None is a part of the head that the loss did not use."""
    for total, gradient in zip(totals, found, strict=True):
        if gradient is not None:
            total += gradient


def _fields(scored: Scored) -> tuple[Tensor, Tensor, Tensor]:
    return scored.losses, scored.entropy, scored.current
