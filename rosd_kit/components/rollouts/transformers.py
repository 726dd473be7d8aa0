"""Samples with the student's own module, in this process: no second copy of the weights, nothing to sync.

    requests -> equal ones once -> sort by prompt -> decode (`rosd_kit.decoding`) -> completions

Before the first batch, a cached continuation of two short prompts is compared with plain log-probs: first with the cache that
shares prompts, then with the model's own. A model for which both give others (some recurrent layers keep their state elsewhere,
or let padding into it) runs over the whole text for every token.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

import torch
from pydantic import PositiveInt

from rosd_kit.contracts import Policy, RolloutEngine, Site, TeacherModel
from rosd_kit.text.spans import decode_with_spans
from rosd_kit.text.specials import ids_without_token
from rosd_kit.text.stops import completes_stop
from rosd_kit.types import Completion, GenerateRequest, PolicyWeights

if TYPE_CHECKING:
    from torch import nn

    from rosd_kit.decoding.choice import Choice, RowsFactory


class TransformersEngine(RolloutEngine):
    """Samples with the student itself through transformers; needs no server and runs anywhere."""

    name = "transformers"
    provides = frozenset({"overlap"})

    class Config(RolloutEngine.Config):
        """Batching."""

        fixed_because: ClassVar[str] = "the engine is started once"

        max_batch: PositiveInt = 256
        """Maximum number of sequences per batch."""

    def start(self, student: Policy, site: Site | None = None) -> None:
        self.student = student
        self.version = 0
        self._tell = site.tell if site is not None else None
        self._choice: Choice | None = None

    def sync(self, student: Policy, version: int) -> None:
        self.version = version

    def generate(self, requests: Sequence[GenerateRequest], *, weights: PolicyWeights = "live") -> list[Completion]:
        limit = getattr(self.student.model.config, "max_position_embeddings", 1 << 30)
        asked = [_as_drawn(request) for request in requests]
        # In this order requests with the same prompt follow one another, and prompts of a batch are about as long.
        fitting = sorted(
            {request for request in asked if len(request.prompt_ids) < limit},
            key=lambda request: (len(request.prompt_ids), request.prompt_ids, request.seed),
        )
        source = self.student.initial() if weights == "initial" else nullcontext(self.student.model)
        with source as model, TeacherModel(model).active(), torch.inference_mode():
            results = self._decode(model, fitting, limit) if fitting else []
        sampled = dict(zip(fitting, results, strict=True))
        return [
            self._completion(request, *sampled.get(drawn, ([], [])), weights, overlong=drawn not in sampled)
            for request, drawn in zip(requests, asked, strict=True)
        ]

    def _decode(self, model: nn.Module, requests: Sequence[GenerateRequest], limit: int) -> list[tuple[list[int], list[float]]]:
        from rosd_kit.decoding.loop import decode  # needs torch, and listing the engine must not
        from rosd_kit.decoding.sampler import TokenSampler
        from rosd_kit.decoding.stop_strings import StopStrings

        student, prompts = self.student, {request.prompt_ids for request in requests}
        return decode(
            self._rows_of(model, limit)(model, 2 * len(prompts) <= len(requests)),
            requests,
            [min(request.sampling.max_new_tokens, limit - len(request.prompt_ids)) for request in requests],
            TokenSampler.of(requests, student.device, ids_without_token(student.tokenizer, student.vocabulary)),
            StopStrings(student.tokenizer, requests),
            student.end_ids,
            max_batch=self.config.max_batch,
            device=student.device,
        )

    def _rows_of(self, model: nn.Module, limit: int) -> RowsFactory:
        """Return how to cache this model's rows; that is tried out once."""
        from rosd_kit.decoding.choice import choose_rows

        if self._choice is None:
            student = self.student
            self._choice = choose_rows(model, student.vocabulary, student.pad_id, student.device, limit)
            if self._choice.note is not None and self._tell is not None:
                self._tell(self._choice.note)
        return self._choice.make

    def _completion(
        self, request: GenerateRequest, ids: list[int], logprobs: list[float], weights: PolicyWeights, *, overlong: bool = False
    ) -> Completion:
        text, spans = decode_with_spans(self.student.tokenizer, ids)
        ended = bool(ids) and ids[-1] in self.student.end_ids
        ended = ended or completes_stop(self.student.tokenizer, ids, request.sampling.stop)
        return Completion(
            prompt_ids=request.prompt_ids,
            token_ids=tuple(ids),
            logprobs=tuple(logprobs),
            text=text,
            token_spans=tuple(spans),
            finish_reason="overlong" if overlong else "stop" if ended else "length",
            weight_version=self.version if weights == "live" else 0,
        )


def _as_drawn(request: GenerateRequest) -> GenerateRequest:
    """Return the request with a common seed if its tokens do not depend on one: equal requests are continued once."""
    return request if request.sampling.temperature else replace(request, seed=0, reference=None)
