"""The loop over tokens: draw one per row, take ended rows out of the batch, let waiting requests in, run the next token.

    waiting requests -> rows of the batch -> draw -> ended? -> drop, fill up from the waiting -> forward -> draw ...

Each token is drawn by inverse CDF from a uniform number that depends only on the request's seed and the token's index. So the
tokens of a request depend neither on the other requests nor on its row in the batch, up to rounding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

from rosd_kit.decoding.rows import Rows, close_gaps
from rosd_kit.decoding.sampler import TokenSampler
from rosd_kit.decoding.stop_strings import StopStrings
from rosd_kit.types import GenerateRequest

if TYPE_CHECKING:
    from torch import Tensor

#: On a device that computes in the background, ended rows are looked for at every so many tokens: looking waits for it.
_PERIOD = 4
#: Ended rows leave the batch once they are this share of it; taking them out costs a little too.
_ENDED_SHARE = 1 / 16
#: Waiting requests come in when this share of the batch is free: prompts are cheaper to run together.
_FREE_SHARE = 1 / 4


@dataclass
class _Batch:
    """The state of the rows: which request each of them continues (`requests`), and how many tokens it has drawn.

    `uniforms` `[admitted, budget]` has one line per request that came in; `line`, `request` and `drawn` `[rows]` are on the
    device, and so is `ended`, which marks rows that drew an end token.
    """

    requests: list[int]
    line: Tensor
    request: Tensor
    drawn: Tensor
    ended: Tensor
    uniforms: Tensor
    counts: list[int] = field(default_factory=list)

    @classmethod
    def empty(cls, device: torch.device) -> _Batch:
        nothing = torch.empty(0, dtype=torch.long, device=device)
        uniforms = torch.empty(0, 0, dtype=torch.float64, device=device)
        return cls([], nothing, nothing, nothing, nothing.bool(), uniforms)

    def add(self, numbers: Sequence[int], requests: Sequence[GenerateRequest], budget: int) -> None:
        """Append rows for these requests, which draw at most `budget` tokens."""
        device, new = self.line.device, len(numbers)
        lines = _uniforms(requests, budget).to(device)
        width = max(budget, self.uniforms.shape[1] if self.requests else 0)
        old, lines = (torch.nn.functional.pad(part, (0, width - part.shape[1])) for part in (self.uniforms[self.line], lines))
        self.uniforms = torch.cat([old, lines])
        self.requests += numbers
        self.counts += [0] * new
        self.line = torch.arange(len(self.requests), device=device)
        self.request = torch.cat([self.request, torch.tensor(numbers, device=device)])
        self.drawn = torch.cat([self.drawn, self.drawn.new_zeros(new)])
        self.ended = torch.cat([self.ended, self.ended.new_zeros(new)])

    def keep(self, order: Sequence[int]) -> None:
        index = torch.tensor(order, dtype=torch.long, device=self.line.device)
        self.requests, self.counts = ([values[old] for old in order] for values in (self.requests, self.counts))
        self.line, self.request, self.drawn, self.ended = (
            values[index] for values in (self.line, self.request, self.drawn, self.ended)
        )

    def next_uniforms(self) -> Tensor:
        """Return each row's uniform number for its next token, `[rows]`; rows that have ended may repeat their last."""
        return self.uniforms[self.line, self.drawn.clamp(max=self.uniforms.shape[1] - 1)]

    def advance(self, ended: Tensor) -> None:
        self.ended = self.ended | ended
        self.drawn = self.drawn + 1
        self.counts = [count + 1 for count in self.counts]


def decode(
    rows: Rows,
    requests: Sequence[GenerateRequest],
    budgets: Sequence[int],
    sampler: TokenSampler,
    stops: StopStrings,
    end_ids: frozenset[int],
    *,
    max_batch: int,
    device: torch.device,
) -> list[tuple[list[int], list[float]]]:
    """Continue every request until an end token, a stop string or its token budget; return ids and log-probs in order.

    Requests with the same prompt should follow one another. `max_batch` bounds the rows.
    """
    ends = torch.tensor(sorted(end_ids), dtype=torch.long, device=device)
    waiting, batch = list(range(len(requests)))[::-1], _Batch.empty(device)
    logits = torch.empty(0, device=device)
    drawn: list[tuple[Tensor, Tensor, Tensor]] = []
    for step in range(sum(budgets)):
        free = max_batch - len(batch.requests)
        if waiting and (free == max_batch or (rows.extends and free >= min(len(waiting), max_batch * _FREE_SHARE))):
            new = [waiting.pop() for _ in range(min(free, len(waiting)))]
            first = rows.add([requests[number].prompt_ids for number in new])
            logits = torch.cat([logits, first]) if batch.requests else first
            batch.add(new, [requests[number] for number in new], max(budgets[number] for number in new))
        tokens, logprobs = sampler.draw(logits, batch.next_uniforms(), batch.request)
        drawn.append((batch.request, tokens, logprobs))
        batch.advance(torch.isin(tokens, ends))
        stopped = stops.add(batch.requests, tokens.tolist()) if stops.any else None
        spent = [count >= budgets[number] for count, number in zip(batch.counts, batch.requests, strict=True)]
        if device.type == "cpu" or step % _PERIOD == _PERIOD - 1 or all(spent):
            kept = [not (ended or out) for ended, out in zip(batch.ended.tolist(), spent, strict=True)]
            kept = kept if stopped is None else [keep and not stop for keep, stop in zip(kept, stopped, strict=True)]
            going = len(kept) - sum(kept)
            if going == len(kept) or going > len(kept) * _ENDED_SHARE:
                order = close_gaps(kept)
                batch.keep(order)
                rows.keep(order)
                if not order and not waiting:
                    break
                tokens = tokens[torch.tensor(order, dtype=torch.long, device=device)]
        if batch.requests:
            logits = rows.forward(tokens)
    return _collect(drawn, budgets, stops.lengths, end_ids)


def _uniforms(requests: Sequence[GenerateRequest], length: int) -> Tensor:
    """Return uniform numbers in [0, 1), `[requests, length]`, each row from its request's seed."""
    generator = torch.Generator()
    rows = [
        torch.rand(length, generator=generator.manual_seed(request.seed), dtype=torch.float64)
        if request.sampling.temperature
        else torch.zeros(length, dtype=torch.float64)
        for request in requests
    ]
    return torch.stack(rows)


def _collect(
    drawn: list[tuple[Tensor, Tensor, Tensor]], budgets: Sequence[int], stopped: dict[int, int], end_ids: frozenset[int]
) -> list[tuple[list[int], list[float]]]:
    """Return each request's ids and log-probs up to its end token, stop string or token budget, whichever comes first."""
    ids: list[list[int]] = [[] for _ in budgets]
    logprobs: list[list[float]] = [[] for _ in budgets]
    limits = [min(budget, stopped.get(number, budget)) for number, budget in enumerate(budgets)]
    columns = (torch.cat(column).tolist() for column in zip(*drawn, strict=True))
    for request, token, logprob in zip(*columns, strict=True):
        finished = len(ids[request]) >= limits[request] or (bool(ids[request]) and ids[request][-1] in end_ids)
        if not finished:
            ids[request].append(token)
            logprobs[request].append(logprob)
    return list(zip(ids, logprobs, strict=True))
