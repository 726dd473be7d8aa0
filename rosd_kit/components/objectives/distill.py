"""The distillation term. Sees only the teacher's log-probs, never its weights or prompt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

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

    def token_weights(self, sample: DistillSample) -> Sequence[float]:
        """Return the localizer's weights times the gate's; all zeros without a teacher prompt."""
        scale = sample.weight if self.takes(sample) and sample.teacher_views else 0.0
        return [scale * weight for weight in sample.token_weights]

    def per_token(self, scores: TokenScores) -> Float[Tensor, " tokens"]:
        """Return importance weight times divergence, in nats."""
        parts, teacher = self.parts, scores.teacher
        assert parts is not None and teacher is not None, "distill needs its loss parts and a teacher"
        projection = parts.support.project(scores.student, teacher, scores.sampled)
        if projection.sampled:
            loss = parts.divergence.sampled(projection.student[:, 0], projection.teacher[:, 0])
        else:
            loss = parts.divergence.per_token(projection.student, projection.teacher)
        if self.config.token_clip is not None:
            loss = loss.clamp_max(self.config.token_clip)
        return parts.correction.weigh(scores.behaviour, scores.current.detach()) * loss
