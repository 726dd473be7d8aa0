"""The slots of the loss: support, divergence, correction, objective."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from rosd_kit.contracts.component import Component
from rosd_kit.types import DistillSample

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor


@dataclass(frozen=True)
class Projection:
    """Student and teacher log-probs on a support, `[tokens, k]` each; probabilities of a row sum to 1 unless `sampled`."""

    student: Float[Tensor, "tokens k"]
    teacher: Float[Tensor, "tokens k"]
    sampled: bool = False


class Support(Component):
    """Chooses the vocabulary entries on which student and teacher are compared.

    `may_change_teacher` declares that the target is not the teacher itself: equal distributions may become different.
    """

    kind = "support"
    may_change_teacher: bool = False

    @abstractmethod
    def project(
        self,
        student: Float[Tensor, "tokens vocab"],
        teacher: Float[Tensor, "tokens vocab"],
        sampled: Int[Tensor, " tokens"],
    ) -> Projection:
        """Project full log-probs onto the support. Differentiable in `student`."""


class Divergence(Component):
    """Measures how far the student is from the teacher at each token: >= 0, and 0 where they agree.

    `may_be_negative` and `may_differ_at_equality` declare exceptions from that; an instance may set them by its options.
    """

    kind = "divergence"
    may_be_negative: bool = False
    may_differ_at_equality: bool = False

    @abstractmethod
    def per_token(self, student: Float[Tensor, "tokens k"], teacher: Float[Tensor, "tokens k"]) -> Float[Tensor, " tokens"]:
        """Return nats per token from log-probs on the support; plain differentiable torch."""

    def sampled(self, student: Float[Tensor, " tokens"], teacher: Float[Tensor, " tokens"]) -> Float[Tensor, " tokens"]:
        """Estimate from the sampled token alone; called instead of `per_token` on the support `sampled`.

        Implemented by divergences that provide the capability `sampled`.
        """
        raise AssertionError(f"divergence {self.name} cannot be estimated from the sampled token")


class Correction(Component):
    """Computes importance weights for the gap between the policy that sampled and the one being trained.

    `may_weigh_equals` declares that weights may differ from 1 where the two policies agree. `by_sequence` declares that `weigh`
    wants all weighted tokens of one response at once, and gives them one weight.
    """

    kind = "correction"
    may_weigh_equals: bool = False

    @property
    def by_sequence(self) -> bool:
        """Whether `weigh` wants whole responses."""
        return False

    @abstractmethod
    def weigh(self, behaviour: Float[Tensor, " tokens"], current: Float[Tensor, " tokens"]) -> Float[Tensor, " tokens"]:
        """Return one weight per token from log-probs of the sampled tokens; `current` carries no gradient."""


@dataclass(frozen=True)
class LossParts:
    """The components that an objective may call."""

    support: Support
    divergence: Divergence
    correction: Correction


@dataclass(frozen=True)
class TokenScores:
    """A chunk of weighted tokens, as objectives receive it.

    `student` carries gradient. `teacher` is None if no objective of the recipe needs it. `behaviour` holds the engine's
    log-probs of the sampled tokens, `current` the student's at the same sampling temperature (with gradient), and `advantage`
    what the objective returned for the token's sample.

    An objective that joins views finds `teacher` None and all views in `views`; `marks[v, t]` is the mark that its `view_marks`
    gave to view v, or 0 where token t has no such view (whose log-probs are then meaningless).

    `old` holds the student's log-probs like `current`, before the step's first update; None where they are those of `current`.
    """

    student: Float[Tensor, "tokens vocab"]
    teacher: Float[Tensor, "tokens vocab"] | None
    sampled: Int[Tensor, " tokens"]
    behaviour: Float[Tensor, " tokens"]
    current: Float[Tensor, " tokens"]
    advantage: Float[Tensor, " tokens"]
    views: tuple[Float[Tensor, "tokens vocab"], ...] = ()
    marks: Float[Tensor, "views tokens"] | None = None
    old: Float[Tensor, " tokens"] | None = None

    def old_logprobs(self) -> Float[Tensor, " tokens"]:
        """Return the trainer's log-probs of the sampled tokens before the step's first update, without gradient."""
        return self.current.detach() if self.old is None else self.old.detach()

    def view_logprobs(self) -> Float[Tensor, "views tokens"]:
        """Return the teacher's log-probs of the sampled tokens per view, at temperature 1; 0 where a token lacks the view."""
        found = self.student.new_zeros(len(self.views), len(self.sampled))
        for row, logp in zip(found, self.views, strict=True):
            row.copy_(logp.gather(1, self.sampled[:, None]).squeeze(1))
        return found if self.marks is None else found.masked_fill(self.marks == 0, 0.0)

    def sampled_logprobs(self) -> Float[Tensor, " tokens"]:
        """Return the student's log-probs of the sampled tokens at temperature 1."""
        return self.student.gather(1, self.sampled[:, None]).squeeze(1)


class Objective(Component):
    """One term of the loss: which tokens it covers and what each costs.

    The engine sums weight times loss over the global batch and divides by the global sum of weights, term by term. With
    `needs_teacher`, a token's loss is the mean of `per_token` over its sample's teacher views, and 0 without any. An objective
    with `joins_views` is called once for all its tokens and sees all views at once, or none where a sample has none.
    """

    kind = "objective"
    needs_teacher: ClassVar[bool] = False
    joins_views: ClassVar[bool] = False

    def __init__(self, config: object = None, parts: LossParts | None = None) -> None:
        super().__init__(config)
        self.parts = parts

    @property
    def asks_teacher(self) -> bool:
        """Whether the teacher must score for this term."""
        return self.needs_teacher or self.joins_views

    @property
    def needs_old(self) -> bool:
        """Whether samples must hold `old_logprobs` when a step makes several updates, or `advantage` reads them."""
        return False

    def takes(self, sample: DistillSample) -> bool:
        """Return whether the gate routed this sample to this term."""
        return sample.route in ("*", self.name)

    @abstractmethod
    def token_weights(self, sample: DistillSample) -> Sequence[float]:
        """Return one weight per response token, >= 0; all zeros leaves the sample out of this term."""

    def advantage(self, sample: DistillSample) -> float:
        """Return the sample's advantage, for objectives that use one."""
        return 0.0

    def view_marks(self, sample: DistillSample) -> Sequence[float]:
        """Return one nonzero number per teacher view of the sample, by which `per_token` distinguishes them.

        Called only for objectives with `joins_views`; `TeacherView.source` says what a view is.
        """
        return [1.0] * len(sample.teacher_views)

    @abstractmethod
    def per_token(self, scores: TokenScores) -> Float[Tensor, " tokens"]:
        """Return the loss of each token in the chunk; differentiable in `scores.student`."""
