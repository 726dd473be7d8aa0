"""Sampling with the student's own module, in process: no second copy of the weights, nothing to sync.

    requests -> same-sized prompts together -> prefill each different prompt once -> one token a forward -> completions

A token is chosen by inverse CDF from a uniform number that belongs to its request and place, so a request's tokens depend
neither on its neighbours nor on its place in the batch (up to rounding).
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from pydantic import PositiveInt

from rosd_kit.components.rollouts.caching import cache_word
from rosd_kit.contracts import Policy, RolloutEngine, Site, TeacherModel
from rosd_kit.text.spans import decode_with_spans
from rosd_kit.types import Completion, GenerateRequest, PolicyWeights

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import DynamicCache


class TransformersEngine(RolloutEngine):
    """Samples with the student itself through transformers; needs no server and runs anywhere."""

    name = "transformers"
    provides = frozenset({"overlap"})

    class Config(RolloutEngine.Config):
        """Batching."""

        max_batch: PositiveInt = 256
        """Most sequences that are continued at once."""

    def start(self, student: Policy, site: Site | None = None) -> None:
        self.student = student
        self.version = 0

    def sync(self, student: Policy, version: int) -> None:
        self.version = version

    def generate(self, requests: Sequence[GenerateRequest], *, weights: PolicyWeights = "live") -> list[Completion]:
        done: list[Completion | None] = [None] * len(requests)
        limit = getattr(self.student.model.config, "max_position_embeddings", 1 << 30)
        order = sorted(range(len(requests)), key=lambda i: (len(requests[i].prompt_ids), requests[i].prompt_ids))
        fitting = [i for i in order if len(requests[i].prompt_ids) < limit]
        source = self.student.initial() if weights == "initial" else nullcontext(self.student.model)
        with source as model, TeacherModel(model).active(), torch.inference_mode():
            for start in range(0, len(fitting), self.config.max_batch):
                chunk = fitting[start : start + self.config.max_batch]
                answers = _continue(model, self.student, [requests[i] for i in chunk], limit)
                for i, (ids, logprobs) in zip(chunk, answers, strict=True):
                    done[i] = self._completion(requests[i], ids, logprobs, weights)
        return [c or self._completion(r, [], [], weights, overlong=True) for r, c in zip(requests, done, strict=True)]

    def _completion(
        self, request: GenerateRequest, ids: list[int], logprobs: list[float], weights: PolicyWeights, *, overlong: bool = False
    ) -> Completion:
        text, spans = decode_with_spans(self.student.tokenizer, ids)
        ended = bool(ids) and ids[-1] in self.student.end_ids
        return Completion(
            prompt_ids=request.prompt_ids,
            token_ids=tuple(ids),
            logprobs=tuple(logprobs),
            text=text,
            token_spans=tuple(spans),
            finish_reason="overlong" if overlong else "stop" if ended else "length",
            weight_version=self.version if weights == "live" else 0,
        )


def _continue(
    model: nn.Module, student: Policy, requests: Sequence[GenerateRequest], limit: int
) -> list[tuple[list[int], list[float]]]:
    """Continue every request until its end token or its budget; return ids and log-probs, in order."""
    device = student.device
    live, logits = _prefill(model, student, requests, limit)
    budgets = [min(r.sampling.max_new_tokens, limit - len(r.prompt_ids)) for r in requests]
    uniforms = _uniforms(requests, max(budgets)).to(device)
    drawing = _Drawing.of(requests, device)
    ends = torch.tensor(sorted(student.end_ids), device=device)
    allowed = torch.tensor(budgets, device=device)
    steps: list[tuple[Tensor, Tensor, Tensor]] = []
    for t in range(max(budgets)):
        tokens, logprobs = drawing.draw(logits, uniforms[live.rows, t], live.rows)
        steps.append((live.rows, tokens, logprobs))
        going = ~torch.isin(tokens, ends) & (t + 1 < allowed[live.rows])
        # Leaving finished rows in costs less than copying the cache, until they are a quarter of the batch.
        left = int(going.sum()) if t % 4 == 3 or t + 1 == max(budgets) else -1
        if left == 0:
            break
        if 0 <= left < 0.75 * len(going):
            tokens = tokens[going]
            live.keep(going)
        logits = live.forward(model, tokens)
    return _collect(steps, budgets, student.end_ids)


@dataclass
class _Live:
    """The rows of a batch that still run: which requests they are, their cache and their attention mask."""

    rows: Tensor
    cache: DynamicCache
    mask: Tensor
    position: Tensor
    last_position: int

    def keep(self, chosen: Tensor) -> None:
        """Drop all other rows."""
        index = chosen.nonzero().squeeze(1)
        self.cache.batch_select_indices(index)
        self.rows, self.mask, self.position = self.rows[index], self.mask[index], self.position[index]

    def forward(self, model: nn.Module, tokens: Tensor) -> Tensor:
        """Append one token a row; return the next logits `[rows, vocab]`."""
        self.mask = torch.cat([self.mask, self.mask.new_ones(len(tokens), 1)], dim=1)
        out = model(
            input_ids=tokens[:, None],
            attention_mask=self.mask,
            position_ids=self.position[:, None],
            use_cache=True,
            **{cache_word(model): self.cache},
        )
        # Finished rows may run on for a while, past the last position that the model has.
        self.position = (self.position + 1).clamp(max=self.last_position)
        logits: Tensor = out.logits[:, -1]
        return logits


def _prefill(model: nn.Module, student: Policy, requests: Sequence[GenerateRequest], limit: int) -> tuple[_Live, Tensor]:
    """Run each different prompt once, left-padded, and spread cache and logits over the requests that share it."""
    from transformers import DynamicCache

    prompts = list(dict.fromkeys(r.prompt_ids for r in requests))
    place = {prompt: i for i, prompt in enumerate(prompts)}
    longest = max(len(p) for p in prompts)
    ids = torch.full((len(prompts), longest), student.pad_id)
    mask = torch.zeros_like(ids)
    for row, prompt in enumerate(prompts):
        ids[row, longest - len(prompt) :] = torch.tensor(prompt)
        mask[row, longest - len(prompt) :] = 1
    ids, mask = ids.to(student.device), mask.to(student.device)
    config: Any = model.config
    cache: Any = DynamicCache(config=config)
    out = model(
        input_ids=ids,
        attention_mask=mask,
        position_ids=(mask.cumsum(1) - 1).clamp(min=0),
        use_cache=True,
        logits_to_keep=1,
        **{cache_word(model): cache},
    )
    spread = torch.tensor([place[r.prompt_ids] for r in requests], device=student.device)
    cache.batch_select_indices(spread)
    rows = torch.arange(len(requests), device=student.device)
    live = _Live(rows=rows, cache=cache, mask=mask[spread], position=mask[spread].sum(1), last_position=limit - 1)
    return live, out.logits[:, -1][spread]


@dataclass(frozen=True)
class _Drawing:
    """How each request draws a token from its logits."""

    temperature: Tensor
    greedy: Tensor
    top_p: Tensor
    any_greedy: bool = field(default=False)
    any_nucleus: bool = field(default=False)

    @classmethod
    def of(cls, requests: Sequence[GenerateRequest], device: torch.device) -> _Drawing:
        temperatures = [r.sampling.temperature for r in requests]
        top_p = [r.sampling.top_p for r in requests]
        return cls(
            temperature=torch.tensor([t or 1.0 for t in temperatures], device=device),
            greedy=torch.tensor([t == 0 for t in temperatures], device=device),
            top_p=torch.tensor(top_p, device=device),
            any_greedy=any(t == 0 for t in temperatures),
            any_nucleus=any(p < 1 for p in top_p),
        )

    def draw(self, logits: Tensor, uniform: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return `[rows]` tokens and their log-probs at the sampling temperature, over the whole distribution."""
        logp = torch.log_softmax(logits.float() / self.temperature[rows, None], dim=-1)
        p = logp.exp()
        if self.any_nucleus:
            p = _nucleus(p, self.top_p[rows, None])
        mass = p.double().cumsum(-1)
        # The first entry whose cumulative mass exceeds the drawn share; a zero-probability entry never does so first.
        token = torch.searchsorted(mass, uniform[:, None] * mass[:, -1:], right=True).clamp(max=p.shape[-1] - 1)
        chosen = token.squeeze(1)
        if self.any_greedy:
            chosen = torch.where(self.greedy[rows], logits.argmax(-1), chosen)
        return chosen, logp.gather(1, chosen[:, None]).squeeze(1)


def _nucleus(p: Tensor, top_p: Tensor) -> Tensor:
    """Set to zero what lies outside the most likely entries that together hold `top_p`; entries keep their places."""
    ranked, order = p.sort(dim=-1, descending=True, stable=True)
    outside = (ranked.cumsum(-1) - ranked >= top_p) & (top_p < 1)
    return torch.zeros_like(p).scatter(1, order, ranked.masked_fill(outside, 0.0))


def _uniforms(requests: Sequence[GenerateRequest], length: int) -> Tensor:
    """Return `[requests, length]` numbers in [0, 1), each row from its request's own seed."""
    generator = torch.Generator()
    rows = [
        torch.rand(length, generator=generator.manual_seed(r.seed), dtype=torch.float64)
        if r.sampling.temperature
        else torch.zeros(length, dtype=torch.float64)
        for r in requests
    ]
    return torch.stack(rows)


def _collect(
    steps: list[tuple[Tensor, Tensor, Tensor]], budgets: list[int], ends: frozenset[int]
) -> list[tuple[list[int], list[float]]]:
    """Gather each request's tokens up to its end token or its budget, whichever comes first."""
    ids: list[list[int]] = [[] for _ in budgets]
    logprobs: list[list[float]] = [[] for _ in budgets]
    for rows, tokens, values in steps:
        for row, token, value in zip(rows.tolist(), tokens.tolist(), values.tolist(), strict=True):
            finished = len(ids[row]) >= budgets[row] or (bool(ids[row]) and ids[row][-1] in ends)
            if not finished:
                ids[row].append(token)
                logprobs[row].append(value)
    return list(zip(ids, logprobs, strict=True))
