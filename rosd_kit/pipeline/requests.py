"""Sends prompts to the engine within their token budgets; prompts over the budget become `overlong` outcomes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from threading import Event

from rosd_kit.contracts import Generator, RolloutEngine
from rosd_kit.pipeline.counters import Counters
from rosd_kit.seeds import stable_seed
from rosd_kit.text.budget import fit_prompt
from rosd_kit.types import Completion, GenerateRequest, Message, PolicyWeights, Prompt, Sampling

Encode = Callable[[Sequence[Message]], tuple[int, ...]]
Send = Callable[[Sequence[GenerateRequest]], Iterator[tuple[int, Completion]]]
Decode = Callable[[Sequence[int]], tuple[str, Sequence[tuple[int, int]]]]


@dataclass(frozen=True, kw_only=True)
class Requester:
    """An engine, how to turn messages into prompt ids, and ids into a text and the range of characters of each."""

    engine: Generator
    encode: Encode
    decode: Decode | None = None
    """Needed where rollouts are continued."""
    begins_in_thinking: bool = False
    """Whether the chat template opens a thinking block at the end of these prompts."""

    def stream(
        self, requests: Sequence[GenerateRequest], limit: int, weights: PolicyWeights = "live"
    ) -> Iterator[tuple[int, Completion]]:
        """Yield (index, completion) as they finish; prompts that are empty or over `limit` tokens come first, as `overlong`."""
        return self._stream(requests, limit, {}, partial(self.engine.stream, weights=weights))

    def rollouts(
        self, requests: Sequence[GenerateRequest], limit: int, begun: Mapping[int, Completion], stop: Event | None
    ) -> Iterator[tuple[int, Completion]]:
        """Like `stream`; end what is open once `stop` is set, and join what continues a `begun` completion to it.

        The prompt of such a request ends in the begun tokens, which do not count for `limit`.
        """
        send: Send = self.engine.stream
        if stop is not None:
            assert isinstance(self.engine, RolloutEngine), "a wrapper cannot stop requests"
            send = partial(self.engine.stream_until, stop)
        for place, completion in self._stream(requests, limit, begun, send):
            yield place, self._joined(begun[place], completion) if place in begun else completion

    def _stream(
        self,
        requests: Sequence[GenerateRequest],
        limit: int,
        begun: Mapping[int, Completion],
        send: Send,
    ) -> Iterator[tuple[int, Completion]]:
        continued = {place: len(completion.token_ids) for place, completion in begun.items()}
        fitting = [i for i, request in enumerate(requests) if 0 < len(request.prompt_ids) - continued.get(i, 0) <= limit]
        for i in sorted(set(range(len(requests))) - set(fitting)):
            yield i, _overlong(requests[i].prompt_ids)
        if fitting:
            for position, completion in send([requests[i] for i in fitting]):
                yield fitting[position], replace(completion, begins_in_thinking=True) if self.begins_in_thinking else completion

    def _joined(self, begun: Completion, rest: Completion) -> Completion:
        """Return a completion and its continuation as one, which is as old as the weights that began it."""
        ids = begun.token_ids + rest.token_ids
        assert self.decode is not None
        text, spans = self.decode(ids)
        return replace(
            begun,
            token_ids=ids,
            logprobs=begun.logprobs + rest.logprobs,
            text=text,
            token_spans=tuple(spans),
            finish_reason="length" if rest.finish_reason == "overlong" else rest.finish_reason,
        )

    def encode_within(self, prompt: Prompt, budget: int, name: str, counters: Counters) -> tuple[int, ...] | None:
        """Return the prompt's ids, shortened to `budget` tokens; None where the sections that are never cut do not fit.

        Counts `budget/<name>_cut` and `budget/<name>_overlong`.
        """
        fitted = fit_prompt(prompt, lambda messages: len(self.encode(messages)), budget)
        counters.add(f"budget/{name}_cut", float(fitted.cut))
        if not fitted.fits:
            counters.add(f"budget/{name}_overlong")
            return None
        return self.encode(fitted.messages)


@dataclass(kw_only=True)
class ReflectionRequests:
    """The callable that a reflector generates with: fits prompts to their budget, seeds them, counts tokens.

    A request's seed comes from `seed` and its prompt, so it does not depend on what else is in the batch. `failure` keeps an
    error of the engine, which is not the reflector's fault although it passes through it.
    """

    requester: Requester
    counters: Counters
    seed: tuple[int | str, ...]
    repeats: Counter[tuple[int, ...]] = field(default_factory=Counter)
    tokens: int = 0
    failure: Exception | None = None

    def __call__(
        self, prompts: Sequence[Prompt], *, sampling: Sampling, max_prompt_tokens: int, weights: PolicyWeights
    ) -> list[Completion]:
        """Generate one completion per prompt, in order."""
        encoded = [self.requester.encode_within(prompt, max_prompt_tokens, "reflect", self.counters) for prompt in prompts]
        requests = [GenerateRequest(prompt_ids=ids or (), sampling=sampling, seed=self._seed_of(ids or ())) for ids in encoded]
        try:
            completions = dict(self.requester.stream(requests, max_prompt_tokens, weights))
        except Exception as error:
            self.failure = error
            raise
        self.tokens += sum(len(completion.token_ids) for completion in completions.values())
        return [completions[i] for i in range(len(requests))]

    def _seed_of(self, prompt_ids: tuple[int, ...]) -> int:
        self.repeats[prompt_ids] += 1
        return stable_seed(*self.seed, *prompt_ids, self.repeats[prompt_ids])


def _overlong(prompt_ids: tuple[int, ...]) -> Completion:
    return Completion(prompt_ids=prompt_ids, token_ids=(), logprobs=(), text="", token_spans=(), finish_reason="overlong")
