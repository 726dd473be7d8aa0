"""The distillation term. Sees only the teacher's log-probs, never its weights or prompt."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import torch
from pydantic import PositiveFloat

from rosd_kit.contracts import Objective, TokenScores
from rosd_kit.types import DistillSample

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


class Distill(Objective):
    """Pulls the student towards the teacher: importance weight times divergence on the localized tokens.

    Source: ROSD (arXiv 2605.28014), whose loss is this term with `jsd`, `student_topk` and `truncated`; OPSD and SDPO
    are the same term with other components.
    """

    name = "distill"
    needs = frozenset({"teacher_prompt"})
    provides = frozenset({"divergence"})
    needs_teacher = True

    class Config(Objective.Config):
        """Options of `distill`."""

        token_clip: PositiveFloat | None = None
        """Largest loss of one token, in nats, before its importance weight; tokens above it get no gradient."""
        temperature: PositiveFloat = 1.0
        """Divides the logits of student and teacher before they are compared; OPSD uses 1.1."""
        normalise: Literal["token", "sequence"] = "token"
        """`token`: mean over all weighted tokens of the step; `sequence`: mean over sequences of each one's weighted mean."""

    def token_weights(self, sample: DistillSample) -> Sequence[float]:
        """Return the localizer's weights times the gate's, or shares of the gate's under `sequence`; zeros without a teacher
        prompt."""
        scale = sample.weight if self.takes(sample) and sample.teacher_views else 0.0
        if self.config.normalise == "sequence":
            scale /= math.fsum(sample.token_weights) or 1.0
        return [scale * weight for weight in sample.token_weights]

    @property
    def needs_old(self) -> bool:
        """Return True with a correction that weighs whole sequences."""
        return self.parts is not None and self.parts.correction.by_sequence

    def advantage(self, sample: DistillSample) -> float:
        """Return the importance weight of the sample's weighted tokens, for a correction that weighs whole sequences."""
        if self.parts is None or not self.parts.correction.by_sequence:
            return super().advantage(sample)
        if not sample.old_logprobs:
            return 1.0
        pairs = zip(sample.behaviour_logprobs, sample.old_logprobs, sample.token_weights, strict=True)
        rows = torch.tensor([(behaviour, old) for behaviour, old, weight in pairs if weight], dtype=torch.float64)
        return float(self.parts.correction.weigh(*rows.T)[0]) if len(rows) else 1.0

    def per_token(self, scores: TokenScores) -> Float[Tensor, " tokens"]:
        """Return importance weight times divergence, in nats."""
        parts, teacher = self.parts, scores.teacher
        assert parts is not None and teacher is not None, "distill needs its loss parts and a teacher"
        student = scores.student
        if self.config.temperature != 1.0:
            student, teacher = ((logp / self.config.temperature).log_softmax(-1) for logp in (student, teacher))
        projection = parts.support.project(student, teacher, scores.sampled)
        if projection.sampled:
            loss = parts.divergence.sampled(projection.student[:, 0], projection.teacher[:, 0])
        else:
            loss = parts.divergence.per_token(projection.student, projection.teacher)
        if self.config.token_clip is not None:
            loss = loss.clamp_max(self.config.token_clip)
        if parts.correction.by_sequence:
            return scores.advantage * loss
        return parts.correction.weigh(scores.behaviour, scores.current.detach()) * loss
