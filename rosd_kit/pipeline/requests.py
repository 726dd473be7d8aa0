"""Asking the engine: what fits a limit is continued, what does not comes back as an outcome, in its place."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from rosd_kit.contracts import Generator
from rosd_kit.pipeline.counters import Counters
from rosd_kit.seeds import stable_seed
from rosd_kit.text.budget import fit_prompt
from rosd_kit.types import Completion, GenerateRequest, Message, PolicyWeights, Prompt, Sampling

Encode = Callable[[Sequence[Message]], tuple[int, ...]]


@dataclass(frozen=True, kw_only=True)
class Requester:
    """An engine, and how messages become prompt ids."""

    engine: Generator
    encode: Encode

    def stream(
        self, requests: Sequence[GenerateRequest], limit: int, weights: PolicyWeights = "live"
    ) -> Iterator[tuple[int, Completion]]:
        """Yield (index, completion) as they are finished; prompts that are empty or over the limit first, as `overlong`."""
        fitting = [i for i, request in enumerate(requests) if 0 < len(request.prompt_ids) <= limit]
        for i in sorted(set(range(len(requests))) - set(fitting)):
            yield i, _overlong(requests[i].prompt_ids)
        if fitting:
            for at, completion in self.engine.stream([requests[i] for i in fitting], weights=weights):
                yield fitting[at], completion

    def encode_within(self, prompt: Prompt, budget: int, what: str, counters: Counters) -> tuple[int, ...] | None:
        """Return the prompt's ids under the budget, or None where even the parts that must stay do not fit."""
        fitted = fit_prompt(prompt, lambda messages: len(self.encode(messages)), budget)
        counters.add(f"budget/{what}_cut", float(fitted.cut))
        if not fitted.fits:
            counters.add(f"budget/{what}_overlong")
            return None
        return self.encode(fitted.messages)


@dataclass(kw_only=True)
class PromptWriter:
    """What a reflector calls to have text generated: encodes its prompts under their budget and counts what was made.

    A request's seed comes from `seed_of` and its prompt, so that it is the same whoever else is asked about in one go.
    `failure` is what the engine raised, which is not the reflector's doing although it comes out of it.
    """

    requester: Requester
    counters: Counters
    seed_of: tuple[int | str, ...]
    asked: Counter[tuple[int, ...]] = field(default_factory=Counter)
    made: int = 0
    failure: Exception | None = None

    def __call__(
        self, prompts: Sequence[Prompt], *, sampling: Sampling, max_prompt_tokens: int, weights: PolicyWeights
    ) -> list[Completion]:
        found = [self.requester.encode_within(prompt, max_prompt_tokens, "reflect", self.counters) or () for prompt in prompts]
        requests = [GenerateRequest(prompt_ids=ids, sampling=sampling, seed=self._seed(ids)) for ids in found]
        try:
            answers = dict(self.requester.stream(requests, max_prompt_tokens, weights))
        except Exception as error:
            self.failure = error
            raise
        self.made += sum(len(completion.token_ids) for completion in answers.values())
        return [answers[i] for i in range(len(requests))]

    def _seed(self, prompt_ids: tuple[int, ...]) -> int:
        self.asked[prompt_ids] += 1
        return stable_seed(*self.seed_of, *prompt_ids, self.asked[prompt_ids])


def _overlong(prompt_ids: tuple[int, ...]) -> Completion:
    return Completion(prompt_ids=prompt_ids, token_ids=(), logprobs=(), text="", token_spans=(), finish_reason="overlong")
