"""The rollout engine `example`: samples responses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

import rosd_kit as rk

#: The version of the plugin API that this plugin is written for.
rosd_kit_api = 2


class Example(rk.RolloutEngine):
    """Samples with the student's own module, one request at a time, and reads all of it for each token: simple but slow."""

    name = "example"

    class Config(rk.Config):
        """The context window."""

        window: int | None = None
        """Largest number of tokens of prompt and response together; null: the model's number of positions."""

    def start(self, student: rk.Policy, site: rk.Site | None = None) -> None:
        self.student = student
        self.version = 0

    def sync(self, student: rk.Policy, version: int) -> None:
        self.version = version

    def generate(self, requests: Sequence[rk.GenerateRequest], *, weights: rk.PolicyWeights = "live") -> list[rk.Completion]:
        if weights == "live":
            return [self._complete(self.student.model, request, self.version) for request in requests]
        with self.student.initial() as model:
            return [self._complete(model, request, 0) for request in requests]

    def _complete(self, model: Any, request: rk.GenerateRequest, version: int) -> rk.Completion:
        ids: list[int] = []
        logprobs: list[float] = []
        window = self.config.window or model.config.max_position_embeddings
        max_tokens = min(request.sampling.max_new_tokens, window - len(request.prompt_ids))
        generator = torch.Generator().manual_seed(request.seed)
        with rk.TeacherModel(model).active():
            while len(ids) < max_tokens and not self._has_ended(ids, request):
                read = torch.tensor([[*request.prompt_ids, *ids]], device=self.student.device)
                out = model(input_ids=read, use_cache=False)
                token, logprob = _sample(out.logits[0, -1].float().cpu(), request.sampling, generator)
                ids.append(token)
                logprobs.append(logprob)
        text, spans = rk.decode_with_spans(self.student.tokenizer, ids)
        return rk.Completion(
            prompt_ids=request.prompt_ids,
            token_ids=tuple(ids),
            logprobs=tuple(logprobs),
            text=text,
            token_spans=tuple(spans),
            finish_reason="overlong" if max_tokens < 1 else "stop" if self._has_ended(ids, request) else "length",
            weight_version=version,
        )

    def _has_ended(self, ids: list[int], request: rk.GenerateRequest) -> bool:
        """Return whether the last token is an end token or completes a stop string."""
        ended = bool(ids) and ids[-1] in self.student.end_ids
        return ended or rk.completes_stop(self.student.tokenizer, ids, request.sampling.stop)


def _sample(logits: torch.Tensor, sampling: rk.Sampling, generator: torch.Generator) -> tuple[int, float]:
    """Return a sampled token, and its logprob over the whole vocabulary at the sampling temperature."""
    logp = torch.log_softmax(logits / (sampling.temperature or 1.0), dim=-1)
    if sampling.temperature == 0:
        token = int(logits.argmax())
    else:
        probabilities, order = logp.exp().sort(descending=True)
        if sampling.top_k:
            probabilities[sampling.top_k :] = 0.0
            probabilities /= probabilities.sum()
        probabilities[probabilities.cumsum(0) - probabilities >= sampling.top_p] = 0.0
        probabilities[probabilities < sampling.min_p * probabilities[0]] = 0.0
        token = int(order[torch.multinomial(probabilities, 1, generator=generator)])
    return token, float(logp[token])


@rk.hookimpl
def rosd_kit_components() -> list[type[rk.Component]]:
    return [Example]
