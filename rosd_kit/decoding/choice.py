"""Chooses how a model's rows are cached: the fastest way that gives the model's own log-probs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn

from rosd_kit.decoding.cached import CachedRows
from rosd_kit.decoding.direct import runs_directly
from rosd_kit.decoding.recomputed import RecomputedRows
from rosd_kit.decoding.rows import Rows
from rosd_kit.decoding.shared import PrefillMode, SharedRows, Unsupported
from rosd_kit.model.layout_check import FORWARD_ERRORS, logprob_gap
from rosd_kit.model.split import split_model

#: Makes an empty batch for a model; `sharing` says whether most prompts come more than once.
RowsFactory = Callable[[nn.Module, bool], Rows]

#: Named after `SharedRows`, with `DirectLayers` or the model's own, `CachedRows` and `RecomputedRows`.
RowsKind: TypeAlias = Literal["direct", "shared", "cached", "recomputed"]


@dataclass(frozen=True)
class Choice:
    """How to make rows, and what the user should know about it, if anything."""

    kind: RowsKind
    make: RowsFactory
    note: str | None = None


def choose_rows(model: nn.Module, vocabulary: int, pad_id: int, device: torch.device, limit: int) -> Choice:
    """Try the ways to cache, the fastest first; `limit` is the greatest length of a text.

    Two rows of each of two short prompts run, which have their first token in common; some rows are dropped, and one
    token follows. All log-probs are compared with those of the model without a cache, and so are those of a prefix tree.
    """

    def shared(model: nn.Module, sharing: bool, *, direct: bool = False, prefill: PrefillMode = "padded") -> Rows:
        return SharedRows(model, pad_id, device, sharing=sharing, direct=direct, prefill=prefill)

    def cached(model: nn.Module, _sharing: bool) -> Rows:
        return CachedRows(model, pad_id, device, limit)

    def recomputed(model: nn.Module, _sharing: bool) -> Rows:
        return RecomputedRows(model, pad_id, device)

    ids = [1 + index * (vocabulary - 1) // 8 for index in range(8)]
    one, other = (ids[0], ids[1]), (ids[0], *ids[2:5])  # they branch after their first token
    prompts = [one, one, other, other]
    if limit <= len(other) + 1:
        return Choice("recomputed", recomputed)
    narrow = next(model.parameters()).dtype.itemsize < 4

    def logprobs(rows: Rows) -> Tensor:
        first = rows.add(prompts)
        rows.keep([0, 3, 2])
        tokens = torch.tensor(ids[-3:], device=device)
        return torch.cat([first, rows.forward(tokens)]).double().log_softmax(-1)

    expected = logprobs(recomputed(model, False))

    def is_exact(make: RowsFactory, sharing: bool) -> bool:
        try:
            return logprob_gap(logprobs(make(model, sharing)), expected, narrow=narrow) is None
        except torch.OutOfMemoryError:
            raise
        except (Unsupported, *FORWARD_ERRORS):
            return False

    name = type(model).__name__
    parts = split_model(model)
    kinds: tuple[RowsKind, ...] = ("direct", "shared") if runs_directly(model, parts) else ("shared",)
    for kind in kinds:
        make = partial(shared, direct=kind == "direct")
        if is_exact(make, True) and is_exact(make, False):
            with_tree = parts.can_share_prefixes and is_exact(partial(make, prefill="tree"), False)
            return Choice(kind, partial(make, prefill="cheaper") if with_tree else make)
    if is_exact(cached, False):
        note = f"{name}: its layers need transformers' own cache; rollouts take longer than with a shared one"
        return Choice("cached", cached, note)
    note = f"{name}: its cache does not give the model's own log-probs; each token runs over the whole text"
    return Choice("recomputed", recomputed, note)
