"""Which sequences go through a model together, and in what form.

    padded   one sequence a row, padded on the right.
    packed   one after the other in a single row, positions beginning anew: no padding, for kernels that skip what lies
             between sequences.
    shared   padded, but the prompt that the members of a family begin with runs once: its keys and values are handed
             to all of them, in whatever micro-batch, and the gradient flows back through them (`beginnings.py`).

No form changes what a sequence's states are, beyond rounding. Knows nothing of samples, weights or losses.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import Literal

import torch
from jaxtyping import Int
from torch import Tensor

Mode = Literal["padded", "packed", "shared"]
#: A shorter common beginning is not worth a pass of its own.
_SHORTEST_PREFIX = 8


@dataclass(frozen=True)
class Text:
    """A prompt and what follows it; `family` tells which others may begin with the same tokens.

    `begun` is how many tokens all of the family begin with, as `with_beginnings` finds it.
    """

    prompt: tuple[int, ...]
    response: tuple[int, ...]
    family: Hashable = None
    begun: int = 0

    @property
    def ids(self) -> tuple[int, ...]:
        """What the model reads: the last token of the response predicts nothing that is wanted."""
        return self.prompt + self.response[:-1]


@dataclass(frozen=True)
class Prefix:
    """The beginnings of families, `[families, longest]`, and the family that each row continues."""

    ids: Int[Tensor, "families longest"]
    lengths: Int[Tensor, " families"]
    owner: Int[Tensor, " rows"]

    def begins_like(self, other: Prefix) -> bool:
        """Return whether the beginnings are the same, whoever goes on from them."""
        return torch.equal(self.lengths, other.lengths) and torch.equal(self.ids, other.ids)


@dataclass(frozen=True)
class Layout:
    """Texts as a model takes them.

    `first[i]`: where, in the flattened hidden states, the first response token of text i is predicted. `positions` are
    None where every row begins at 0.
    """

    ids: Int[Tensor, "rows length"]
    positions: Int[Tensor, "rows length"] | None
    first: Int[Tensor, " texts"]
    prefix: Prefix | None = None


def with_beginnings(texts: Sequence[Text]) -> list[Text]:
    """Return the texts, each with the number of tokens of its prompt that all members of its family begin with.

    It is 0 where a run of its own is not worth it. The last token of a prompt is never among them: its state predicts the
    response's first token.
    """
    families: dict[Hashable, list[tuple[int, ...]]] = {}
    for text in texts:
        families.setdefault(text.family, []).append(text.prompt[:-1])
    found = {}
    for family, prompts in families.items():
        alike = sum(1 for _ in takewhile(lambda column: len(set(column)) == 1, zip(*prompts, strict=False)))
        found[family] = alike if len(prompts) > 1 and alike >= _SHORTEST_PREFIX else 0
    return [replace(text, begun=found[text.family]) for text in texts]


def plan(texts: Sequence[Text], *, budget: int, mode: Mode) -> list[list[int]]:
    """Group the indices of texts so that no group's layout takes more than `budget` tokens.

    Sorted by length, longest first, so that little is padded and too small a memory shows at once. Families stay together
    under `shared`; one that is too large alone is cut into several groups, all of its own, which go on from one beginning.
    A text that is longer than the budget stands alone.
    """
    families: dict[Hashable, list[int]] = {}
    for index in sorted(range(len(texts)), key=lambda i: -len(texts[i].ids)):
        families.setdefault(texts[index].family if mode == "shared" else index, []).append(index)
    groups: list[list[int]] = []
    joins = False
    for members in families.values():
        if joins and _size([texts[i] for i in groups[-1] + members], mode) <= budget:
            groups[-1] += members
            continue
        groups.append([])
        first = len(groups)
        for index in members:
            if groups[-1] and _size([texts[i] for i in [*groups[-1], index]], mode) > budget:
                groups.append([])
            groups[-1].append(index)
        joins = len(groups) == first
    return groups


def lay_out(texts: Sequence[Text], *, pad_id: int, mode: Mode) -> Layout:
    """Return the texts in one of the forms.

    No attention mask goes with padded rows: causal attention never looks to the right, so no token sees the padding; a
    mask would rule out the fused kernels, and with sliding windows leave padded rows with nothing to look at, which some
    attention implementations turn into NaN. In a packed row transformers keeps the texts apart by their positions.
    """
    rows = [torch.tensor(text.ids, dtype=torch.long) for text in texts]
    ends = torch.tensor([len(text.prompt) - 1 for text in texts])
    if mode == "packed":
        lengths = torch.tensor([len(row) for row in rows])
        positions = torch.cat([torch.arange(len(row)) for row in rows])
        return Layout(torch.cat(rows)[None], positions[None], lengths.cumsum(0) - lengths + ends)
    prefix = None
    if mode == "shared" and any(text.begun for text in texts):
        rows = [row[text.begun :] for row, text in zip(rows, texts, strict=True)]
        ends -= torch.tensor([text.begun for text in texts])
        prefix = _prefix(texts, pad_id)
    ids = _padded(rows, pad_id)
    return Layout(ids, None, torch.arange(len(rows)) * ids.shape[1] + ends, prefix)


def idle_layout() -> Layout:
    """Return the shortest layout there is, for a run of a model that is for nothing."""
    return lay_out([Text((0,), (0,))], pad_id=0, mode="padded")


def _size(texts: Sequence[Text], mode: Mode) -> int:
    """Return how many tokens, padding included, the layout of these texts has."""
    lengths = [len(text.ids) for text in texts]
    if mode == "packed":
        return sum(lengths)
    if mode == "padded":
        return len(texts) * max(lengths)
    begun = {text.family: text.begun for text in texts}
    return len(texts) * max(len(text.ids) - text.begun for text in texts) + len(begun) * max(begun.values())


def _prefix(texts: Sequence[Text], pad_id: int) -> Prefix:
    places: dict[Hashable, int] = {}
    begun: list[Tensor] = []
    for text in texts:
        if text.family not in places:
            places[text.family] = len(begun)
            begun.append(torch.tensor(text.prompt[: text.begun], dtype=torch.long))
    lengths = torch.tensor([len(row) for row in begun])
    return Prefix(_padded(begun, pad_id), lengths, torch.tensor([places[text.family] for text in texts]))


def _padded(rows: Sequence[Tensor], pad_id: int) -> Int[Tensor, "rows length"]:
    return torch.nn.utils.rnn.pad_sequence(list(rows), batch_first=True, padding_value=pad_id)
