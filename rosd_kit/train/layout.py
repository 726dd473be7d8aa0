"""Which sequences go through a model together, and in what form.

    padded   one sequence a row, padded on the right.
    packed   one after the other in a single row, positions beginning anew: no padding, for kernels that skip what lies
             between sequences.
    shared   padded, but the prompt that the members of a family begin with runs once: its keys and values are handed
             to all of them, and the gradient flows back through them.

No form changes what a sequence's states are, beyond rounding. Knows nothing of samples, weights or losses.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
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
    """A prompt and what follows it; `family` tells which others may begin with the same tokens."""

    prompt: tuple[int, ...]
    response: tuple[int, ...]
    family: Hashable = None

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


def plan(texts: Sequence[Text], *, budget: int, mode: Mode) -> list[list[int]]:
    """Group the indices of texts so that no group's layout takes more than `budget` tokens.

    Sorted by length, longest first, so that little is padded and too small a memory shows at once. Families stay together
    under `shared`, unless one alone is too large. A text that is longer than the budget stands alone.
    """
    families: dict[Hashable, list[int]] = {}
    for index in sorted(range(len(texts)), key=lambda i: -len(texts[i].ids)):
        families.setdefault(texts[index].family if mode == "shared" else index, []).append(index)
    groups: list[list[int]] = []
    for members in families.values():
        if groups and _size([texts[i] for i in groups[-1] + members], mode) <= budget:
            groups[-1] += members
            continue
        groups.append([])
        for index in members:
            if groups[-1] and _size([texts[i] for i in [*groups[-1], index]], mode) > budget:
                groups.append([])
            groups[-1].append(index)
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
    if mode == "shared" and any(common := _common(texts)):
        rows = [row[skipped:] for row, skipped in zip(rows, common, strict=True)]
        ends -= torch.tensor(common)
        prefix = _prefix(texts, common, pad_id)
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
    common = _common(texts)
    begun = {text.family: skipped for text, skipped in zip(texts, common, strict=True)}
    suffixes = [length - skipped for length, skipped in zip(lengths, common, strict=True)]
    return len(texts) * max(suffixes) + len(begun) * max(begun.values())


def _common(texts: Sequence[Text]) -> list[int]:
    """Return for each text how many tokens of its prompt all members of its family begin with; 0 where it is not worth it.

    The last token of a prompt is never among them: its state predicts the response's first token.
    """
    families: dict[Hashable, list[tuple[int, ...]]] = {}
    for text in texts:
        families.setdefault(text.family, []).append(text.prompt[:-1])
    found = {}
    for family, prompts in families.items():
        alike = sum(1 for _ in takewhile(lambda column: len(set(column)) == 1, zip(*prompts, strict=False)))
        found[family] = alike if len(prompts) > 1 and alike >= _SHORTEST_PREFIX else 0
    return [found[text.family] for text in texts]


def _prefix(texts: Sequence[Text], common: Sequence[int], pad_id: int) -> Prefix:
    places: dict[Hashable, int] = {}
    begun: list[Tensor] = []
    for text, skipped in zip(texts, common, strict=True):
        if text.family not in places:
            places[text.family] = len(begun)
            begun.append(torch.tensor(text.prompt[:skipped], dtype=torch.long))
    lengths = torch.tensor([len(row) for row in begun])
    return Prefix(_padded(begun, pad_id), lengths, torch.tensor([places[text.family] for text in texts]))


def _padded(rows: Sequence[Tensor], pad_id: int) -> Int[Tensor, "rows length"]:
    return torch.nn.utils.rnn.pad_sequence(list(rows), batch_first=True, padding_value=pad_id)
