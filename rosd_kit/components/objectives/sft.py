"""Cross entropy on the student's own responses. Does not know teachers or advantages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from rosd_kit.contracts import Objective, TokenScores
from rosd_kit.types import DistillSample

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


class SupervisedFineTuning(Objective):
    """Raises the likelihood of sampled responses: rejection fine-tuning if only successes count."""

    name = "sft"

    class Config(Objective.Config):
        """Options of `sft`."""

        imitate: Literal["success", "all"] = "success"
        """Which rollouts to imitate."""

    def token_weights(self, sample: DistillSample) -> Sequence[float]:
        """Return the gate's weight for each token; zeros for a failure unless `imitate` is `all`."""
        imitated = self.takes(sample) and (sample.success or self.config.imitate == "all")
        return [sample.weight if imitated else 0.0] * len(sample.response_ids)

    def per_token(self, scores: TokenScores) -> Float[Tensor, " tokens"]:
        """Return the negative log-probs of the sampled tokens at temperature 1, in nats."""
        return -scores.sampled_logprobs()
