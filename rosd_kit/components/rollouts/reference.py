"""Replays reference solutions as rollouts, which makes supervised fine-tuning an ordinary recipe. Never runs the model."""

from __future__ import annotations

from collections.abc import Sequence

from rosd_kit.contracts import Policy, RolloutEngine, Site
from rosd_kit.errors import EngineError
from rosd_kit.text.spans import decode_with_spans
from rosd_kit.text.stops import completes_stop
from rosd_kit.types import Completion, GenerateRequest, PolicyWeights


class ReferenceEngine(RolloutEngine):
    """Returns each problem's reference solution as if it had been sampled, with log-probs of 0; use it with objective `sft`."""

    name = "reference"
    needs = frozenset({"solution"})
    replays = True

    def start(self, student: Policy, site: Site | None = None) -> None:
        self.student = student

    def sync(self, student: Policy, version: int) -> None:
        """Do nothing: reference solutions do not depend on the weights."""

    def generate(self, requests: Sequence[GenerateRequest], *, weights: PolicyWeights = "live") -> list[Completion]:
        return [self._replay(request) for request in requests]

    def _replay(self, request: GenerateRequest) -> Completion:
        if request.reference is None:
            raise EngineError(
                "rollout: 'reference' replays reference solutions, but a request has none (those of evaluation and reflection "
                "never do). Set evaluation.problems=0 and reflector=none, or use rollout=transformers."
            )
        tokenizer = self.student.tokenizer
        ids = [*tokenizer(request.reference, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
        ids = ids[: request.sampling.max_new_tokens]
        stops = request.sampling.stop
        stop = next((n for n in range(1, len(ids)) if completes_stop(tokenizer, ids[:n], stops)), None) if stops else None
        ids = ids[:stop]
        text, spans = decode_with_spans(tokenizer, ids)
        return Completion(
            prompt_ids=request.prompt_ids,
            token_ids=tuple(ids),
            logprobs=(0.0,) * len(ids),
            text=text,
            token_spans=tuple(spans),
            finish_reason="stop" if ids[-1] == tokenizer.eos_token_id or completes_stop(tokenizer, ids, stops) else "length",
        )
