"""Attention of one new token per row, over its prompt's keys and its own: rows with the same prompt read its keys once.

    scores = [query x keys of the prompt, for all rows of the prompt in one product | query x the row's own keys]
    output = softmax(scores) x [values of the prompt | the row's own values]

Registered with transformers as an attention implementation, it serves every architecture whose attention goes through
transformers' attention interface. It masks by itself: rows differ in length, layers may have a window.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from rosd_kit.decoding.key_values import Store
from rosd_kit.model.attention_interface import attend_by

if TYPE_CHECKING:
    from transformers import PretrainedConfig

#: The name under which transformers knows this attention.
NAME = "rosd_kit_decoding_attention"


@dataclass(frozen=True)
class Sharing:
    """Which rows have which prompt.

    `members` `[prompts * most]` are the rows of each prompt, repeated up to the most rows that a prompt has; `places` `[rows]`
    says where each row stands among them. Both are None where that is the order of the rows.
    """

    prompts: int
    members: Tensor | None
    places: Tensor | None

    @classmethod
    def of(cls, prompt_of: Sequence[int], prompts: int, device: torch.device) -> Sharing:
        """Return the sharing of rows; `prompt_of` is each row's prompt, by its number."""
        rows_of: list[list[int]] = [[] for _ in range(prompts)]
        for row, prompt in enumerate(prompt_of):
            rows_of[prompt].append(row)
        most = max(map(len, rows_of))
        members, places = [], [0] * len(prompt_of)
        for prompt, rows in enumerate(rows_of):
            for place, row in enumerate(rows):
                places[row] = prompt * most + place
            members += rows + rows[:1] * (most - len(rows))
        if members == list(range(len(prompt_of))):
            return cls(prompts, None, None)
        return cls(prompts, torch.tensor(members, device=device), torch.tensor(places, device=device))

    def by_prompt(self, rows: Float[Tensor, "rows groups heads x"]) -> Float[Tensor, "prompts groups members*heads x"]:
        """Put the rows of a prompt side by side."""
        each = rows if self.members is None else rows[self.members]
        _, groups, heads, last = rows.shape
        most = len(each) // self.prompts
        return (
            each.view(self.prompts, most, groups, heads, last).transpose(1, 2).reshape(self.prompts, groups, most * heads, last)
        )

    def by_row(
        self, prompts: Float[Tensor, "prompts groups members*heads x"], heads: int
    ) -> Float[Tensor, "rows groups heads x"]:
        """Undo `by_prompt`."""
        _, groups, together, last = prompts.shape
        most = together // heads
        each = prompts.view(self.prompts, groups, most, heads, last).transpose(1, 2).reshape(-1, groups, heads, last)
        return each if self.places is None else each[self.places]


@dataclass
class Step:
    """One token per row: where it goes, and what it sees.

    `prompt_lengths` and `own_lengths` `[rows]` count the tokens before it. `tokens` is the greatest number of own tokens, the
    new one included; `prompt_tokens` that of prompts in their store, 0 if rows hold their prompts themselves.
    `prompt_mask` `[rows, prompt_tokens]` hides padding, None where there is none; `even`: all rows have as many own tokens.
    `windows` collects each layer's window, None where a layer has none.
    """

    prompts: dict[int, Store]
    rows: dict[int, Store]
    sharing: Sharing | None
    index: Tensor
    prompt_lengths: Tensor
    own_lengths: Tensor
    prompt_tokens: int
    tokens: int
    even: bool
    prompt_mask: Tensor | None
    longest: int
    windows: dict[int, int | None] = field(default_factory=dict)
    _masks: dict[int | None, Tensor | None] = field(default_factory=dict)

    def mask(self, window: int | None, dtype: torch.dtype) -> Float[Tensor, "rows 1 1 prompt_tokens+tokens"] | None:
        """Return what to add to the scores: minus infinity where a token is padding or outside the window; None for nothing."""
        window = window if window is not None and window < self.longest else None
        if window not in self._masks:
            self._masks[window] = self._mask(window, dtype)
        return self._masks[window]

    def _mask(self, window: int | None, dtype: torch.dtype) -> Tensor | None:
        if window is None and self.even and self.prompt_mask is None:
            return None
        positions = torch.arange(self.tokens, device=self.index.device)
        own = positions > self.own_lengths[:, None]
        shared = own[:, :0] if not self.prompt_tokens else self.prompt_mask
        if shared is None:
            shared = own.new_zeros(len(own), self.prompt_tokens)
        if window is not None:
            # The new token's own position minus that of each key.
            own = own | (self.own_lengths[:, None] - positions >= window)
            if self.prompt_tokens:
                before = self.prompt_lengths + self.own_lengths
                shared = shared | (before[:, None] - torch.arange(self.prompt_tokens, device=own.device) >= window)
        hidden = torch.cat([shared, own], dim=1)
        return torch.zeros_like(hidden, dtype=dtype).masked_fill_(hidden, -torch.inf)[:, None, None]


_STEP: ContextVar[Step] = ContextVar("step")


def decode_with(config: PretrainedConfig, step: Step) -> AbstractContextManager[None]:
    """Make models with this configuration decode one token per row while the context is open, in this thread."""
    return attend_by(_attend, NAME, config, _STEP, step)


def _attend(
    module: nn.Module,
    query: Float[Tensor, "rows heads 1 size"],
    key: Float[Tensor, "rows groups 1 size"],
    value: Float[Tensor, "rows groups 1 size_v"],
    attention_mask: Tensor | None,
    *,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    **_: object,
) -> tuple[Float[Tensor, "rows 1 heads size_v"], None]:
    """Attend as transformers' attention interface asks. `s_aux` are attention sinks, one logit per head."""
    step = _STEP.get()
    layer: Any = module.layer_idx  # a number; torch types attributes of modules as tensors or modules
    step.windows[layer] = sliding_window
    groups = key.shape[1]
    rows, heads, _one, size = query.shape
    queries = query.reshape(rows, groups, heads // groups, size) * (size**-0.5 if scaling is None else scaling)
    output = attend(step, layer, queries, key[:, :, 0], value[:, :, 0], window=sliding_window, softcap=softcap, sinks=s_aux)
    return output.view(rows, 1, heads, -1), None


def attend(
    step: Step,
    layer: int,
    queries: Float[Tensor, "rows groups heads size"],
    key: Float[Tensor, "rows groups size"],
    value: Float[Tensor, "rows groups size_v"],
    *,
    window: int | None = None,
    softcap: float | None = None,
    sinks: Tensor | None = None,
) -> Float[Tensor, "rows groups heads size_v"]:
    """Write the new keys and values of a layer, and attend with queries that are scaled; `heads` share a key-value head."""
    heads, store, sharing = queries.shape[2], step.rows[layer], step.sharing
    store.write(step.index, step.own_lengths, key, value, at=step.tokens - 1 if step.even else None)
    scores = queries @ store.keys(step.tokens).transpose(2, 3)
    if sharing is not None:
        common = sharing.by_prompt(queries) @ step.prompts[layer].keys(step.prompt_tokens).transpose(2, 3)
        scores = torch.cat([sharing.by_row(common, heads), scores], dim=-1)
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    mask = step.mask(window, scores.dtype)
    if mask is not None:
        scores = scores + mask
    weights = _softmax(scores, sinks).to(value.dtype)
    if sharing is None:
        return weights @ store.values(step.tokens)
    common, own = torch.split(weights, [step.prompt_tokens, step.tokens], dim=-1)
    common = sharing.by_prompt(common) @ step.prompts[layer].values(step.prompt_tokens)
    return own @ store.values(step.tokens) + sharing.by_row(common, heads)


def _softmax(scores: Float[Tensor, "rows groups heads keys"], sinks: Tensor | None) -> Float[Tensor, "rows groups heads keys"]:
    if sinks is None:
        return scores.softmax(-1, dtype=torch.float32)
    rows, groups, heads, _ = scores.shape
    column = sinks.view(1, groups, heads, 1).expand(rows, -1, -1, -1).to(scores.dtype)
    return torch.cat([scores, column], dim=-1).softmax(-1, dtype=torch.float32)[..., :-1]
