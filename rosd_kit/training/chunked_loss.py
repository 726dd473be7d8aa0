"""The head's part of the loss, in pieces: logits exist for one chunk of tokens at a time, and only their gradient leaves it.

    chunk: as many tokens as the budget allows; the two large matrix products, and one buffer of logits each for student
           and teacher, written to again and again.
    tile:  a few rows of a chunk; all that is plain torch over the vocabulary happens here, so its many intermediate
           results stay small (on a CPU: in the cache). The gradient is written over the student's logits.

So objectives may be written without a thought for memory. Knows nothing of backbones, padding or optimizers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from rosd_kit.contracts import TokenScores
from rosd_kit.model.split import SplitModel
from rosd_kit.model.tensors import sent, take
from rosd_kit.recipe.built import WeightedObjective
from rosd_kit.training.grad_accumulation import gradient
from rosd_kit.training.loss_report import Scored
from rosd_kit.training.teacher import TeacherScorer
from rosd_kit.training.token_weights import WeightedTokens

#: Bytes of one tensor over the vocabulary in a tile. On a CPU a handful of them should fit the cache.
TILE_BYTES = {"cpu": 4 << 20}
_LARGEST_TILE = 256 << 20

TeacherStates = Sequence[Sequence[Tensor]]


@dataclass(frozen=True, kw_only=True)
class HeadLoss:
    """What stays the same over the micro-batches of a step. `factors` turn a term's weights into shares of the loss.

    `chunk_bytes` is the room for the logits of one chunk, student and teacher together. `temperature` is the one the
    rollouts were sampled at.
    """

    student: SplitModel
    teacher: TeacherScorer
    terms: tuple[WeightedObjective, ...]
    factors: Float[Tensor, " terms"]
    chunk_bytes: int
    temperature: float

    def measure(self, hidden: Float[Tensor, "tokens hidden"], teacher: TeacherStates, tokens: WeightedTokens) -> Scored:
        """Return what there is to report of some weighted tokens, without any gradient."""
        return self._run(hidden, teacher, tokens, None)

    def differentiate(
        self, hidden: Float[Tensor, "tokens hidden"], teacher: TeacherStates, tokens: WeightedTokens
    ) -> tuple[Float[Tensor, ""], Scored]:
        """Return the share of the loss, ready for `backward` through the hidden states, and the report.

        The head's own gradient is added to the parameters' `.grad` in here: another, of the whole vocabulary, would have to be
        held until then.
        """
        report: list[Scored] = []
        loss: Tensor = _Collected.apply(self, teacher, tokens, report, hidden)  # type: ignore[no-untyped-call]
        return loss, report[0]

    @torch.no_grad()
    def _run(
        self, hidden: Tensor, teacher: TeacherStates, tokens: WeightedTokens, gradients: Sequence[Tensor] | None
    ) -> Scored:
        """Go through all chunks and tiles; add the gradients of hidden states and head in place, if wanted."""
        numbers = _Numbers.of(tokens, self.factors, hidden)
        scored = Scored.empty(len(self.terms), len(tokens), like=numbers.behaviour)
        room: _Logits | None = None
        for chunk in _spans(len(tokens), self._chunk_rows(hidden, teacher)):
            states = [[h[chunk] for h in view] for view in teacher]
            parts = gradients and [gradients[0][chunk], *gradients[1:]]
            logits = self._logits(hidden[chunk], states, room)
            self._chunk(logits, hidden[chunk], tokens.part(chunk), numbers.part(chunk), scored.part(chunk), parts)
            room = room or logits
        return scored.settled()

    def _logits(self, hidden: Tensor, teacher: TeacherStates, room: _Logits | None) -> _Logits:
        """Return the heads' outputs for a chunk, in the memory of those of the first."""
        student = self.student.project(hidden, room.student if room else None)
        found = [
            self.teacher.outputs(states, student.shape[1], room.teacher[view] if room else None)
            for view, states in enumerate(teacher)
        ]
        return _Logits(student, found)

    def _chunk(
        self,
        logits: _Logits,
        hidden: Tensor,
        tokens: WeightedTokens,
        numbers: _Numbers,
        scored: Scored,
        gradients: Sequence[Tensor] | None,
    ) -> None:
        """Score one chunk, tile by tile, and pull its gradient back through the head."""
        raw = logits.student
        for tile in _spans(len(tokens), _tile_rows(raw)):
            views = [[output[tile] for output in view] for view in logits.teacher]
            part = tokens.part(tile), numbers.part(tile), scored.part(tile)
            self._tile(raw[tile], views, *part, differentiate=gradients is not None)
        if gradients is not None:
            self.student.pull_back(hidden, raw, gradients)

    def _chunk_rows(self, hidden: Tensor, teacher: TeacherStates) -> int:
        row = self.student.head(hidden[:1])
        return max(1, self.chunk_bytes // (_bytes(row) * (1 + sum(map(len, teacher)))))

    def _tile(
        self,
        raw: Tensor,
        views: list[list[Tensor]],
        tokens: WeightedTokens,
        numbers: _Numbers,
        scored: Scored,
        *,
        differentiate: bool,
    ) -> None:
        """Score a tile; if wanted, put the gradient in the place of the student's outputs."""
        with torch.set_grad_enabled(differentiate):
            leaf = raw.detach().requires_grad_(differentiate)
            logp = self.student.finish(leaf).log_softmax(-1)
            current = self._current(logp, numbers.sampled)
            losses = self._losses(logp, current, views, tokens, numbers, scored)
            loss = (numbers.shares * losses).sum()
        scored.losses.copy_(losses.detach())
        scored.current.copy_(current.detach())
        if loss.requires_grad:
            raw.copy_(torch.autograd.grad(loss, leaf)[0])
        elif differentiate:
            raw.zero_()
        del loss, losses  # what they were computed from would lie beside the entropy's own tensors
        scored.entropy.copy_(_entropy(logp.detach()))

    def _current(self, logp: Float[Tensor, "tokens vocab"], sampled: Int[Tensor, " tokens"]) -> Float[Tensor, " tokens"]:
        """Return the log-probs of the sampled tokens at the sampling temperature."""
        current = logp.gather(1, sampled[:, None]).squeeze(1)
        if self.temperature == 1.0:
            return current
        return current / self.temperature - (logp / self.temperature).logsumexp(-1)

    def _losses(
        self,
        logp: Float[Tensor, "tokens vocab"],
        current: Float[Tensor, " tokens"],
        views: list[list[Tensor]],
        tokens: WeightedTokens,
        numbers: _Numbers,
        scored: Scored,
    ) -> Float[Tensor, "terms tokens"]:
        """Ask every objective for the losses of the tokens that it covers; 0 elsewhere.

        What is kept of the teacher goes to `scored`.
        """
        taught = scored.taught.zero_()
        scored.doubt.zero_()
        losses = [torch.zeros_like(current) for _ in self.terms]
        needing = [i for i, term in enumerate(self.terms) if term.objective.needs_teacher and not term.objective.joins_views]
        joining = [i for i, term in enumerate(self.terms) if term.objective.joins_views]
        joined: list[Tensor] = []
        for view, outputs in enumerate(views):
            wanted = (tokens.views > view).nonzero().squeeze(1)
            if len(wanted):
                teacher = self.teacher.logp([take(output, wanted) for output in outputs])
                found = teacher.gather(1, take(numbers.sampled, wanted)[:, None]).squeeze(1)
                places = sent(wanted, taught.device)
                taught.index_add_(0, places, found / take(numbers.views, wanted))
                if not torch.is_grad_enabled():
                    scored.doubt.index_add_(0, places, _entropy(teacher) / take(numbers.views, wanted))
                if joining:
                    joined.append(_spread(teacher, wanted, len(current)))
                for index in needing:
                    inside = tokens.weights[index, wanted].nonzero().squeeze(1)
                    found = self._term(index, logp, current, take(teacher, inside), wanted[inside], numbers)
                    losses[index] = losses[index] + found / numbers.views
        for index in set(range(len(self.terms))) - set(needing):
            rows = tokens.weights[index].nonzero().squeeze(1)
            losses[index] = self._term(index, logp, current, None, rows, numbers, joined if index in joining else ())
        return torch.stack(losses)

    def _term(
        self,
        index: int,
        logp: Tensor,
        current: Tensor,
        teacher: Tensor | None,
        rows: Int[Tensor, " rows"],
        numbers: _Numbers,
        views: Sequence[Tensor] = (),
    ) -> Float[Tensor, " tokens"]:
        """Return one objective's losses on some rows of a tile, 0 on the others."""
        if len(rows) == 0:
            return torch.zeros_like(current)
        found = self.terms[index].objective.per_token(
            TokenScores(
                student=take(logp, rows),
                teacher=teacher,
                sampled=take(numbers.sampled, rows),
                behaviour=take(numbers.behaviour, rows),
                current=take(current, rows),
                advantage=take(numbers.advantages[index], rows),
                views=tuple(take(view, rows) for view in views),
                marks=take(numbers.marks[index, : len(views)].T, rows).T,
            )
        )
        if found.shape != rows.shape:
            raise ValueError(
                f"objective {self.terms[index].objective.name!r} returned losses of shape {list(found.shape)} for {len(rows)} "
                "tokens; it (or the divergence that it asks) must return one number a token, [tokens]"
            )
        if len(rows) == len(current):
            return found
        return torch.zeros_like(current).index_copy(0, sent(rows, found.device), found)


@dataclass(frozen=True)
class _Logits:
    """The heads' outputs for one chunk: the student's, and `[views][teacher_models]` of the teacher's."""

    student: Float[Tensor, "tokens vocab"]
    teacher: list[list[Tensor]]


@dataclass(frozen=True)
class _Numbers:
    """The tokens' numbers as the arithmetic needs them: on the device, in the precision of log-probs."""

    sampled: Int[Tensor, " tokens"]
    behaviour: Float[Tensor, " tokens"]
    views: Float[Tensor, " tokens"]
    shares: Float[Tensor, "terms tokens"]
    advantages: Float[Tensor, "terms tokens"]
    marks: Float[Tensor, "terms views tokens"]

    @classmethod
    def of(cls, tokens: WeightedTokens, factors: Float[Tensor, " terms"], like: Tensor) -> _Numbers:
        """Take them from the list of tokens, in one go for a whole micro-batch."""
        dtype = torch.promote_types(like.dtype, torch.float32)
        return cls(
            sampled=sent(tokens.sampled, like.device),
            behaviour=sent(tokens.behaviour.to(dtype), like.device),
            views=sent(tokens.views.clamp_min(1).to(dtype), like.device),
            shares=sent((tokens.weights * factors[:, None]).to(dtype), like.device),
            advantages=sent(tokens.advantages.to(dtype), like.device),
            marks=sent(tokens.marks.to(dtype), like.device),
        )

    def part(self, span: slice) -> _Numbers:
        """Return those of some tokens."""
        return _Numbers(
            self.sampled[span],
            self.behaviour[span],
            self.views[span],
            self.shares[:, span],
            self.advantages[:, span],
            self.marks[..., span],
        )


class _Collected(torch.autograd.Function):
    """A loss whose gradient was found with it: backward only hands it out, scaled by what comes from above."""

    @staticmethod
    def forward(
        ctx: Any, run: HeadLoss, teacher: TeacherStates, tokens: WeightedTokens, report: list[Scored], hidden: Tensor
    ) -> Tensor:
        ctx.gradient = torch.zeros_like(hidden)
        report.append(run._run(hidden, teacher, tokens, [ctx.gradient, *map(gradient, run.student.head_parameters())]))
        losses = report[0].losses
        return (losses * (tokens.weights * run.factors[:, None]).to(losses)).sum()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (scale,) = gradients
        found, ctx.gradient = ctx.gradient, None
        return None, None, None, None, found.mul_(scale)


def _entropy(logp: Float[Tensor, "tokens vocab"]) -> Float[Tensor, " tokens"]:
    """Return the entropies in nats. exp(-inf) * finfo.min is 0 where exp(-inf) * -inf is not a number."""
    return -logp.exp().mul_(logp.clamp_min(torch.finfo(logp.dtype).min)).sum(-1)


def _spread(logp: Float[Tensor, "rows vocab"], rows: Int[Tensor, " rows"], count: int) -> Float[Tensor, "tokens vocab"]:
    """Return some rows of a tile in their places among all of them, zeros elsewhere."""
    if len(rows) == count:
        return logp
    return logp.new_zeros(count, logp.shape[1]).index_copy(0, rows.to(logp.device), logp)


def _spans(length: int, most: int) -> Iterator[slice]:
    """Cut a length into as few spans as hold at most `most` each, of nearly equal size."""
    size = -(-length // max(1, -(-length // most)))
    return (slice(start, min(start + size, length)) for start in range(0, length, max(1, size)))


def _tile_rows(raw: Float[Tensor, "tokens vocab"]) -> int:
    return max(1, TILE_BYTES.get(raw.device.type, _LARGEST_TILE) // (raw.shape[1] * 4))


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()
