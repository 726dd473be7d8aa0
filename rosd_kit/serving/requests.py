"""Turns requests of the pipeline into calls of a server, and what it answers into completions."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import count

from rosd_kit.contracts import Policy
from rosd_kit.errors import EngineError
from rosd_kit.serving.client import Client
from rosd_kit.serving.pool import Pool
from rosd_kit.serving.protocol import GenerateResult, ServerFault
from rosd_kit.serving.stopping import until
from rosd_kit.text.spans import decode_with_spans
from rosd_kit.text.stops import completes_stop
from rosd_kit.types import Completion, GenerateRequest


@dataclass(kw_only=True)
class RequestSender:
    """Sends requests for a student's text. `never` are ids that must not be sampled; `name` begins the names of requests."""

    student: Policy
    never: Sequence[int]
    name: str
    _numbers: Iterator[int] = field(default_factory=count)

    def check(self, requests: Sequence[GenerateRequest]) -> None:
        """Raise `EngineError` for ids outside the vocabulary: a server that reads one crashes."""
        for request in requests:
            for token in (min(request.prompt_ids, default=0), max(request.prompt_ids, default=0)):
                if not 0 <= token < self.student.vocabulary:
                    raise EngineError(
                        f"rollout: a prompt has the token id {token}; the model's are 0 to {self.student.vocabulary - 1}. "
                        "Tokenizer and model do not match: correct model.path."
                    )

    async def send(self, pool: Pool, request: GenerateRequest, stopped: asyncio.Event | None = None) -> GenerateResult:
        """Return the answer of a pool's server; once `stopped` is set, what there is of it, with finish reason `abort`."""
        budget = min(request.sampling.max_new_tokens, pool.context_length - len(request.prompt_ids))
        generate = partial(_generate, request=request, budget=budget, end_ids=sorted(self.student.end_ids), never=self.never)
        if stopped is None:
            return await pool.call(partial(generate, name=None))
        nothing = GenerateResult(token_ids=(), logprobs=(), finish_reason="abort", labels=pool.labels)

        async def stoppable(client: Client) -> GenerateResult:
            if stopped.is_set():
                return nothing
            name = f"{self.name}-{next(self._numbers)}"  # of its own for each try: a server may still know the one before
            result = await until(stopped, generate(client, name=name), partial(client.abort, name))
            if result.finish_reason == "abort" and not stopped.is_set():
                raise ServerFault("aborted", "the server ended a request by itself")
            if result.finish_reason == "abort" and len(result.token_ids) >= budget:  # its last token was sampled meanwhile
                return replace(result, finish_reason="length")
            return nothing if result.finish_reason == "abort" and not result.token_ids else result

        return await pool.call(stoppable)

    def completion(self, request: GenerateRequest, result: GenerateResult | None, version: int) -> Completion:
        """Return the completion of a request; without a result, its prompt was too long."""
        ids = result.token_ids if result else ()
        text, spans = decode_with_spans(self.student.tokenizer, ids)
        ended = bool(ids) and ids[-1] in self.student.end_ids
        ended = ended or completes_stop(self.student.tokenizer, ids, request.sampling.stop)
        aborted = result is not None and result.finish_reason == "abort"
        return Completion(
            prompt_ids=request.prompt_ids,
            token_ids=ids,
            logprobs=result.logprobs if result else (),
            text=text,
            token_spans=tuple(spans),
            finish_reason="overlong" if result is None else "stop" if ended else "abort" if aborted else "length",
            weight_version=version,
        )


async def _generate(
    client: Client, *, request: GenerateRequest, budget: int, end_ids: Sequence[int], never: Sequence[int], name: str | None
) -> GenerateResult:
    return await client.generate(
        request.prompt_ids,
        request.sampling,
        budget=budget,
        seed=request.seed,
        end_ids=end_ids,
        never=never,
        name=name,
    )
