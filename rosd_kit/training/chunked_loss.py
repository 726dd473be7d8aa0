"""The head's share of the loss, in chunks: logits exist for one chunk of tokens at a time, and only their gradient leaves it.

    weighted tokens of a micro-batch
      chunk   as many tokens as `batch.chunk_mib` allows: the two large matrix products, and one buffer of logits each for
              student and teacher, reused by every chunk
        tile  a few rows of a chunk: everything that is plain torch over the vocabulary, so that its many intermediate
              results stay small (on a CPU: in the cache). The gradient overwrites the student's logits.

Objectives can therefore be written without regard to memory. Does not know backbones, padding or optimizers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from rosd_kit.contracts import TokenScores
from rosd_kit.model.split import SplitModel
from rosd_kit.model.tensors import AutogradContext, select_rows, to_device
from rosd_kit.recipe.built import WeightedObjective
from rosd_kit.training.grad_accumulation import ensure_grad
from rosd_kit.training.loss_report import TokenResults
from rosd_kit.training.teacher import TeacherScorer
from rosd_kit.training.token_weights import WeightedTokens

TeacherStates = Sequence[Sequence[Tensor]]


def tile_bytes(device_type: str) -> int:
    """Return the size of one float32 tensor over the vocabulary in a tile; on a CPU a handful of them should fit the cache."""
    return 4 << 20 if device_type == "cpu" else 256 << 20


@dataclass(frozen=True, kw_only=True)
class HeadLoss:
    """The loss of a step from hidden states on. `factors` turn each term's weights into shares of the loss.

    `chunk_bytes` is the memory for the logits of one chunk, student and teacher together. `temperature` is the sampling
    temperature of the rollouts.
    """

    student: SplitModel
    teacher: TeacherScorer
    terms: tuple[WeightedObjective, ...]
    factors: Float[Tensor, " terms"]
    chunk_bytes: int
    temperature: float

    def measure(self, hidden: Float[Tensor, "tokens hidden"], teacher: TeacherStates, tokens: WeightedTokens) -> TokenResults:
        """Return the results of a micro-batch's weighted tokens, without any gradient."""
        return self._run(hidden, teacher, tokens, None)

    def differentiate(
        self, hidden: Float[Tensor, "tokens hidden"], teacher: TeacherStates, tokens: WeightedTokens
    ) -> tuple[Float[Tensor, ""], TokenResults]:
        """Return a micro-batch's share of the loss, ready for `backward` through the hidden states, and its results.

        The head's own gradient is added to its parameters' `.grad` already here; otherwise another gradient over the whole
        vocabulary would be held until the backward pass.
        """
        results: list[TokenResults] = []
        loss: Tensor = _PrecomputedGradient.apply(self, teacher, tokens, results, hidden)  # type: ignore[no-untyped-call]
        return loss, results[0]

    @torch.no_grad()
    def _run(
        self, hidden: Tensor, teacher: TeacherStates, tokens: WeightedTokens, gradients: Sequence[Tensor] | None
    ) -> TokenResults:
        """Process all chunks; add the gradients of hidden states and head to `gradients` in place, if given."""
        tensors = _TokenTensors.of(tokens, self.factors, hidden)
        results = TokenResults.empty(len(self.terms), len(tokens), like=tensors.behaviour)
        buffers: _HeadOutputs | None = None
        for chunk in _spans(len(tokens), self._chunk_rows(hidden, teacher)):
            states = [[h[chunk] for h in view] for view in teacher]
            chunk_gradients = gradients and [gradients[0][chunk], *gradients[1:]]
            outputs = self._head_outputs(hidden[chunk], states, buffers)
            self._chunk(
                outputs, hidden[chunk], tokens.select(chunk), tensors.select(chunk), results.select(chunk), chunk_gradients
            )
            buffers = buffers or outputs
        return results.to_cpu()

    def _head_outputs(self, hidden: Tensor, teacher: TeacherStates, buffers: _HeadOutputs | None) -> _HeadOutputs:
        """Return the heads' raw outputs for a chunk, in the memory of the first chunk's."""
        student = self.student.project(hidden, buffers.student if buffers else None)
        views = [
            self.teacher.outputs(states, student.shape[1], buffers.teacher[view] if buffers else None)
            for view, states in enumerate(teacher)
        ]
        return _HeadOutputs(student, views)

    def _chunk(
        self,
        outputs: _HeadOutputs,
        hidden: Tensor,
        tokens: WeightedTokens,
        tensors: _TokenTensors,
        results: TokenResults,
        gradients: Sequence[Tensor] | None,
    ) -> None:
        """Score one chunk, tile by tile, and backpropagate its gradient through the head."""
        student = outputs.student
        for tile in _spans(len(tokens), _tile_rows(student)):
            views = [[output[tile] for output in view] for view in outputs.teacher]
            selected = tokens.select(tile), tensors.select(tile), results.select(tile)
            self._tile(student[tile], views, *selected, differentiate=gradients is not None)
        if gradients is not None:
            self.student.backward_head(hidden, student, gradients)

    def _chunk_rows(self, hidden: Tensor, teacher: TeacherStates) -> int:
        row = self.student.head(hidden[:1])
        return max(1, self.chunk_bytes // (_bytes(row) * (1 + sum(map(len, teacher)))))

    def _tile(
        self,
        student: Tensor,
        views: list[list[Tensor]],
        tokens: WeightedTokens,
        tensors: _TokenTensors,
        results: TokenResults,
        *,
        differentiate: bool,
    ) -> None:
        """Score a tile; with `differentiate`, overwrite the student's outputs with their gradient."""
        with torch.set_grad_enabled(differentiate):
            leaf = student.detach().requires_grad_(differentiate)
            logp = self.student.finish_logits(leaf).log_softmax(-1)
            current = self._current_logprobs(logp, tensors.sampled)
            losses = self._losses(logp, current, views, tokens, tensors, results)
            loss = (tensors.loss_weights * losses).sum()
        results.losses.copy_(losses.detach())
        results.student_logprobs.copy_(current.detach())
        if loss.requires_grad:
            student.copy_(torch.autograd.grad(loss, leaf)[0])
        elif differentiate:
            student.zero_()
        del loss, losses  # frees their graph, before the entropy allocates its own tensors
        results.student_entropy.copy_(_entropy(logp.detach()))

    def _current_logprobs(
        self, logp: Float[Tensor, "tokens vocab"], sampled: Int[Tensor, " tokens"]
    ) -> Float[Tensor, " tokens"]:
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
        tensors: _TokenTensors,
        results: TokenResults,
    ) -> Float[Tensor, "terms tokens"]:
        """Ask every objective for the losses of the tokens that it covers, 0 elsewhere; write the teacher's `results`.

        A term that needs a teacher is asked once per view and its losses are averaged; one that joins views is asked once, with
        all of them; any other is asked once, without a teacher.
        """
        results.teacher_logprobs.zero_()
        results.teacher_entropy.zero_()
        losses = [torch.zeros_like(current) for _ in self.terms]
        per_view = [i for i, term in enumerate(self.terms) if term.objective.needs_teacher and not term.objective.joins_views]
        joining = [i for i, term in enumerate(self.terms) if term.objective.joins_views]
        joined_views: list[Tensor] = []
        for view, outputs in enumerate(views):
            rows = (tokens.views > view).nonzero().squeeze(1)
            if len(rows) == 0:
                continue
            teacher = self.teacher.logprobs([select_rows(output, rows) for output in outputs])
            view_counts = select_rows(tensors.views, rows)
            device_rows = to_device(rows, current.device)
            sampled = teacher.gather(1, select_rows(tensors.sampled, rows)[:, None]).squeeze(1)
            results.teacher_logprobs.index_add_(0, device_rows, sampled / view_counts)
            if not torch.is_grad_enabled():
                results.teacher_entropy.index_add_(0, device_rows, _entropy(teacher) / view_counts)
            if joining:
                joined_views.append(_scatter_rows(teacher, rows, len(current)))
            for index in per_view:
                covered = tokens.weights[index, rows].nonzero().squeeze(1)
                added = self._term_losses(index, logp, current, select_rows(teacher, covered), rows[covered], tensors)
                losses[index] = losses[index] + added / tensors.views
        for index in set(range(len(self.terms))) - set(per_view):
            rows = tokens.weights[index].nonzero().squeeze(1)
            seen = joined_views if index in joining else ()
            losses[index] = self._term_losses(index, logp, current, None, rows, tensors, seen)
        return torch.stack(losses)

    def _term_losses(
        self,
        index: int,
        logp: Tensor,
        current: Tensor,
        teacher: Tensor | None,
        rows: Int[Tensor, " rows"],
        tensors: _TokenTensors,
        views: Sequence[Tensor] = (),
    ) -> Float[Tensor, " tokens"]:
        """Return one objective's losses on some rows of a tile, 0 on the others."""
        if len(rows) == 0:
            return torch.zeros_like(current)
        losses = self.terms[index].objective.per_token(
            TokenScores(
                student=select_rows(logp, rows),
                teacher=teacher,
                sampled=select_rows(tensors.sampled, rows),
                behaviour=select_rows(tensors.behaviour, rows),
                current=select_rows(current, rows),
                advantage=select_rows(tensors.advantages[index], rows),
                views=tuple(select_rows(view, rows) for view in views),
                marks=select_rows(tensors.marks[index, : len(views)].T, rows).T,
                old=torch.where(tensors.old.isnan(), current.detach(), tensors.old)[to_device(rows, current.device)],
            )
        )
        if losses.shape != rows.shape:
            raise ValueError(
                f"objective {self.terms[index].objective.name!r} returned losses of shape {list(losses.shape)} for {len(rows)} "
                "tokens; it (or its divergence) must return one number per token, [tokens]"
            )
        if len(rows) == len(current):
            return losses
        return torch.zeros_like(current).index_copy(0, to_device(rows, losses.device), losses)


@dataclass(frozen=True)
class _HeadOutputs:
    """The heads' raw outputs for one chunk: the student's, and `[views][teacher_models]` of the teacher's."""

    student: Float[Tensor, "tokens vocab"]
    teacher: list[list[Tensor]]


@dataclass(frozen=True)
class _TokenTensors:
    """`WeightedTokens` in the form that the arithmetic needs: on the device, in the precision of log-probs.

    `views` is at least 1, to divide by; `loss_weights` are weights times factors.
    """

    sampled: Int[Tensor, " tokens"]
    behaviour: Float[Tensor, " tokens"]
    views: Float[Tensor, " tokens"]
    loss_weights: Float[Tensor, "terms tokens"]
    advantages: Float[Tensor, "terms tokens"]
    marks: Float[Tensor, "terms views tokens"]
    old: Float[Tensor, " tokens"]

    @classmethod
    def of(cls, tokens: WeightedTokens, factors: Float[Tensor, " terms"], like: Tensor) -> _TokenTensors:
        """Copy a whole micro-batch's tokens to the device of `like` at once."""
        dtype = torch.promote_types(like.dtype, torch.float32)
        return cls(
            sampled=to_device(tokens.sampled, like.device),
            behaviour=to_device(tokens.behaviour.to(dtype), like.device),
            views=to_device(tokens.views.clamp_min(1).to(dtype), like.device),
            loss_weights=to_device((tokens.weights * factors[:, None]).to(dtype), like.device),
            advantages=to_device(tokens.advantages.to(dtype), like.device),
            marks=to_device(tokens.marks.to(dtype), like.device),
            old=to_device(tokens.old.to(dtype), like.device),
        )

    def select(self, span: slice) -> _TokenTensors:
        """Return views of a span of the tokens."""
        return _TokenTensors(
            self.sampled[span],
            self.behaviour[span],
            self.views[span],
            self.loss_weights[:, span],
            self.advantages[:, span],
            self.marks[..., span],
            self.old[span],
        )


class _PrecomputedGradient(torch.autograd.Function):
    """A loss whose gradient is computed in the forward pass; backward only scales it."""

    @staticmethod
    def forward(
        ctx: AutogradContext,
        head: HeadLoss,
        teacher: TeacherStates,
        tokens: WeightedTokens,
        results: list[TokenResults],
        hidden: Tensor,
    ) -> Tensor:
        ctx.gradient = torch.zeros_like(hidden)
        gradients = [ctx.gradient, *map(ensure_grad, head.student.head_parameters())]
        results.append(head._run(hidden, teacher, tokens, gradients))
        losses = results[0].losses
        return (losses * (tokens.weights * head.factors[:, None]).to(losses)).sum()

    @staticmethod
    def backward(ctx: AutogradContext, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (scale,) = gradients
        gradient, ctx.gradient = ctx.gradient, None
        return None, None, None, None, gradient.mul_(scale)


def _entropy(logp: Float[Tensor, "tokens vocab"]) -> Float[Tensor, " tokens"]:
    """Return entropies in nats. The clamp makes impossible tokens add 0: exp(-inf) * -inf would be NaN."""
    return -logp.exp().mul_(logp.clamp_min(torch.finfo(logp.dtype).min)).sum(-1)


def _scatter_rows(logp: Float[Tensor, "rows vocab"], rows: Int[Tensor, " rows"], count: int) -> Float[Tensor, "tokens vocab"]:
    """Return a tile of `count` rows that holds the given ones at their indices, zeros elsewhere."""
    if len(rows) == count:
        return logp
    return logp.new_zeros(count, logp.shape[1]).index_copy(0, rows.to(logp.device), logp)


def _spans(length: int, most: int) -> Iterator[slice]:
    """Cut a length into the fewest spans of at most `most`, of nearly equal size."""
    size = -(-length // max(1, -(-length // most)))
    return (slice(start, min(start + size, length)) for start in range(0, length, max(1, size)))


def _tile_rows(outputs: Float[Tensor, "tokens vocab"]) -> int:
    return max(1, tile_bytes(outputs.device.type) // (outputs.shape[1] * 4))


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()
