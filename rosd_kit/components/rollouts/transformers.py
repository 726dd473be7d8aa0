"""Samples with the student's own module, in this process: no second copy of the weights, nothing to sync.

    requests -> sort by prompt length -> prefill each distinct prompt once -> one token per forward pass -> completions

Each token is drawn by inverse CDF from a uniform number that depends only on the request's seed and the token's index. So the
tokens of a request depend neither on the other requests nor on its row in the batch, up to rounding.

Before the first batch, a cached continuation of two short prompts is compared with plain log-probs. A model whose cache gives
others (some recurrent layers keep their state elsewhere, or let padding into it) runs over the whole text for every token.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import torch
from pydantic import PositiveInt

from rosd_kit.components.rollouts.caching import cache_argument
from rosd_kit.components.rollouts.token_sampler import TokenSampler
from rosd_kit.contracts import Policy, RolloutEngine, Site, TeacherModel
from rosd_kit.text.spans import decode_with_spans
from rosd_kit.text.specials import ids_without_token
from rosd_kit.text.stops import completes_stop
from rosd_kit.types import Completion, GenerateRequest, PolicyWeights, Sampling

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import DynamicCache, PreTrainedTokenizerBase


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
        self._caches: bool | None = None

    def sync(self, student: Policy, version: int) -> None:
        self.version = version

    def generate(self, requests: Sequence[GenerateRequest], *, weights: PolicyWeights = "live") -> list[Completion]:
        completions: list[Completion | None] = [None] * len(requests)
        limit = getattr(self.student.model.config, "max_position_embeddings", 1 << 30)
        order = sorted(range(len(requests)), key=lambda i: (len(requests[i].prompt_ids), requests[i].prompt_ids))
        fitting = [i for i in order if len(requests[i].prompt_ids) < limit]
        source = self.student.initial() if weights == "initial" else nullcontext(self.student.model)
        with source as model, TeacherModel(model).active(), torch.inference_mode():
            begin = self._prefill_for(model, limit) if fitting else _prefill
            for start in range(0, len(fitting), self.config.max_batch):
                batch = fitting[start : start + self.config.max_batch]
                sampled = _sample(model, self.student, [requests[i] for i in batch], limit, begin)
                for i, (ids, logprobs) in zip(batch, sampled, strict=True):
                    completions[i] = self._completion(requests[i], ids, logprobs, weights)
        return [
            completion or self._completion(request, [], [], weights, overlong=True)
            for request, completion in zip(requests, completions, strict=True)
        ]

    def _prefill_for(self, model: nn.Module, limit: int) -> _Prefill:
        """Return how to begin batches with this model; it is tried out once."""
        if self._caches is None:
            self._caches = _cache_is_exact(model, self.student, limit)
            if not self._caches and self._tell is not None:
                name = type(model).__name__
                self._tell(f"{name}: its cache does not give the model's own log-probs; each token runs over the whole text")
        return _prefill if self._caches else _prefill_without_cache

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


class _Rows(Protocol):
    """Rows of a batch that are still decoded; `requests` `[rows]` are the indices of their requests."""

    requests: Tensor

    def keep(self, selected: Tensor) -> None:
        """Drop all rows that are not selected; `selected` is a boolean mask `[rows]`."""

    def forward(self, model: nn.Module, tokens: Tensor) -> Tensor:
        """Append one token per row; return the next logits `[rows, vocab]`."""


_Prefill = Callable[["nn.Module", Policy, Sequence[GenerateRequest], int], tuple[_Rows, "Tensor"]]


def _sample(
    model: nn.Module, student: Policy, requests: Sequence[GenerateRequest], limit: int, begin: _Prefill
) -> list[tuple[list[int], list[float]]]:
    """Continue every request until its end token, a stop string or its token budget; return ids and log-probs in order."""
    device = student.device
    rows, logits = begin(model, student, requests, limit)
    budgets = [min(r.sampling.max_new_tokens, limit - len(r.prompt_ids)) for r in requests]
    uniforms = _uniforms(requests, max(budgets)).to(device)
    sampler = TokenSampler.of(requests, device, ids_without_token(student.tokenizer, student.vocabulary))
    end_ids = torch.tensor(sorted(student.end_ids), dtype=torch.long, device=device)
    budget = torch.tensor(budgets, device=device)
    stops = _StopStrings(student.tokenizer, requests, budgets)
    steps: list[tuple[Tensor, Tensor, Tensor]] = []
    unfinished = torch.ones(len(requests), dtype=torch.bool, device=device)
    for t in range(max(budgets)):
        tokens, logprobs = sampler.draw(logits, uniforms[rows.requests, t], rows.requests)
        steps.append((rows.requests, tokens, logprobs))
        unfinished = unfinished & ~torch.isin(tokens, end_ids) & (t + 1 < budget[rows.requests])
        if stops.any:
            unfinished = unfinished & ~torch.tensor(stops.add(rows.requests.tolist(), tokens.tolist()), device=device)
        # Counting them waits for the device, so do it at every fourth token only.
        count = int(unfinished.sum()) if t % 4 == 3 or t + 1 == max(budgets) else -1
        if count == 0:
            break
        # Keeping finished rows costs less than copying the cache, until they are a quarter of the batch.
        if 0 <= count < 0.75 * len(unfinished):
            tokens = tokens[unfinished]
            rows.keep(unfinished)
            unfinished = unfinished[unfinished]
        logits = rows.forward(model, tokens)
    return _collect(steps, budgets, student.end_ids)


@dataclass
class _CachedRows:
    """Rows that continue from a cache.

    `mask` `[rows, seq]` is the attention mask, `position` `[rows]` the position of the next token, `last_position` the last one
    that the model has. `recurrent`: no layer attends, so there is no mask.
    """

    requests: Tensor
    cache: DynamicCache
    mask: Tensor
    position: Tensor
    last_position: int
    recurrent: bool

    def keep(self, selected: Tensor) -> None:
        index: Any = selected.nonzero().squeeze(1)
        self.cache.reorder_cache(index)  # recurrent states too
        self.requests, self.mask, self.position = self.requests[index], self.mask[index], self.position[index]

    def forward(self, model: nn.Module, tokens: Tensor) -> Tensor:
        self.mask = torch.cat([self.mask, self.mask.new_ones(len(tokens), 1)], dim=1)
        out = model(
            input_ids=tokens[:, None],
            attention_mask=None if self.recurrent else self.mask,
            position_ids=self.position[:, None],
            use_cache=True,
            **{cache_argument(model): self.cache},
        )
        # Finished rows may stay in the batch for a few tokens, past the model's last position.
        self.position = (self.position + 1).clamp(max=self.last_position)
        logits: Tensor = out.logits[:, -1]
        return logits


def _prefill(model: nn.Module, student: Policy, requests: Sequence[GenerateRequest], limit: int) -> tuple[_CachedRows, Tensor]:
    """Run each distinct prompt once, left-padded; copy its cache and logits to every request that has it."""
    from transformers import DynamicCache

    prompts = list(dict.fromkeys(r.prompt_ids for r in requests))
    row_of = {prompt: row for row, prompt in enumerate(prompts)}
    longest = max(len(prompt) for prompt in prompts)
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
        **{cache_argument(model): cache},
    )
    index = torch.tensor([row_of[request.prompt_ids] for request in requests], device=student.device)
    cache.reorder_cache(index)
    rows = _CachedRows(
        requests=torch.arange(len(requests), device=student.device),
        cache=cache,
        mask=mask[index],
        position=mask[index].sum(1),
        last_position=limit - 1,
        recurrent=not any(hasattr(layer, "keys") for layer in cache.layers),
    )
    return rows, out.logits[:, -1][index]


@dataclass
class _UncachedRows:
    """Rows that run over the whole text for every token; `ids` `[rows, seq]` are padded on the right."""

    requests: Tensor
    ids: Tensor
    lengths: Tensor

    def keep(self, selected: Tensor) -> None:
        self.requests, self.ids, self.lengths = self.requests[selected], self.ids[selected], self.lengths[selected]

    def forward(self, model: nn.Module, tokens: Tensor) -> Tensor:
        if int(self.lengths.max()) == self.ids.shape[1]:
            self.ids = torch.cat([self.ids, torch.zeros_like(self.ids[:, :1])], dim=1)
        self.ids[torch.arange(len(tokens)), self.lengths] = tokens
        self.lengths = self.lengths + 1
        return self.logits(model)

    def logits(self, model: nn.Module) -> Tensor:
        """Return the logits after each row's last token, `[rows, vocab]`; as in training, no token sees the padding."""
        from rosd_kit.model.split import split_model

        parts = split_model(model)
        hidden: Tensor = parts.backbone(input_ids=self.ids, use_cache=False).last_hidden_state
        return parts.logits(hidden[torch.arange(len(self.ids)), self.lengths - 1])


def _prefill_without_cache(
    model: nn.Module, student: Policy, requests: Sequence[GenerateRequest], limit: int
) -> tuple[_UncachedRows, Tensor]:
    lengths = torch.tensor([len(request.prompt_ids) for request in requests])
    prompts = [torch.tensor(request.prompt_ids) for request in requests]
    ids = torch.nn.utils.rnn.pad_sequence(prompts, batch_first=True, padding_value=student.pad_id)
    requests_of_rows = torch.arange(len(requests), device=student.device)
    rows = _UncachedRows(requests_of_rows, ids.to(student.device), lengths.to(student.device))
    return rows, rows.logits(model)


def _cache_is_exact(model: nn.Module, student: Policy, limit: int) -> bool:
    """Return whether padded prompts, dropped rows and a token after the cache give the model's own log-probs."""
    from rosd_kit.model.layout_check import FORWARD_ERRORS, logprob_gap

    ids = [1 + index * (student.vocabulary - 1) // 8 for index in range(8)]
    prompts = [tuple(ids[:1]), tuple(ids[1:5])]
    if limit <= len(prompts[1]) + 1:
        return True
    requests = [GenerateRequest(prompt_ids=prompt, sampling=Sampling(max_new_tokens=2), seed=0) for prompt in prompts]
    token, padded = torch.tensor(ids[-1:], device=student.device), torch.tensor([True, False], device=student.device)
    logprobs = []
    try:
        for begin in (_prefill_without_cache, _prefill):
            rows, logits = begin(model, student, requests, limit)
            rows.keep(padded)
            logprobs.append(torch.cat([logits, rows.forward(model, token)]).double().log_softmax(-1))
    except torch.OutOfMemoryError:
        raise
    except FORWARD_ERRORS:
        return False
    expected, cached = logprobs
    return logprob_gap(cached, expected, narrow=next(model.parameters()).dtype.itemsize < 4) is None


class _StopStrings:
    """Reads the tokens of a batch as they come; where a stop string is complete, the request's token budget ends."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, requests: Sequence[GenerateRequest], budgets: list[int]) -> None:
        self.any = any(request.sampling.stop for request in requests)
        self._tokenizer = tokenizer
        self._stops = [request.sampling.stop for request in requests]
        self._ids: list[list[int]] = [[] for _ in requests]
        self._budgets = budgets

    def add(self, requests: Sequence[int], tokens: Sequence[int]) -> list[bool]:
        """Add one token per row; return whether it completes a stop string. `requests` are the rows' requests, by index."""
        return [self._completes(request, token) for request, token in zip(requests, tokens, strict=True)]

    def _completes(self, request: int, token: int) -> bool:
        ids = self._ids[request]
        ids.append(token)
        if len(ids) > self._budgets[request] or not completes_stop(self._tokenizer, ids, self._stops[request]):
            return False
        self._budgets[request] = len(ids)
        return True


def _uniforms(requests: Sequence[GenerateRequest], length: int) -> Tensor:
    """Return uniform numbers in [0, 1), `[requests, length]`, each row from its request's seed."""
    generator = torch.Generator()
    rows = [
        torch.rand(length, generator=generator.manual_seed(r.seed), dtype=torch.float64)
        if r.sampling.temperature
        else torch.zeros(length, dtype=torch.float64)
        for r in requests
    ]
    return torch.stack(rows)


def _collect(
    steps: list[tuple[Tensor, Tensor, Tensor]], budgets: list[int], end_ids: frozenset[int]
) -> list[tuple[list[int], list[float]]]:
    """Return each request's ids and log-probs up to its end token or the end of its token budget, whichever comes first."""
    ids: list[list[int]] = [[] for _ in budgets]
    logprobs: list[list[float]] = [[] for _ in budgets]
    for requests, tokens, values in steps:
        for request, token, value in zip(requests.tolist(), tokens.tolist(), values.tolist(), strict=True):
            finished = len(ids[request]) >= budgets[request] or (bool(ids[request]) and ids[request][-1] in end_ids)
            if not finished:
                ids[request].append(token)
                logprobs[request].append(value)
    return list(zip(ids, logprobs, strict=True))
