"""Which sequences go through a model together, and in what form.

    padded   one sequence a row, padded on the right.
    packed   one after the other in a single row, positions beginning anew: no padding, for kernels that skip what lies
             between sequences.
    shared   a single row without padding, in which what several sequences begin with, prompt and response, is there once
             (`tree.py`). A family that is too large for a micro-batch is cut into several, which go on from keys and
             values of the beginning of its prompts; the gradient flows back through them (`beginnings.py`).

No form changes what a sequence's states are, beyond rounding. Knows nothing of samples, weights or losses.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal

import torch
from jaxtyping import Int
from torch import Tensor

from rosd_kit.model.prefix_tree import Ids, Tree, common, grow, size

Mode = Literal["padded", "packed", "shared"]
#: A shorter common beginning is not worth a pass of its own.
_SHORTEST_BEGINNING = 8


@dataclass(frozen=True)
class Text:
    """A prompt and what follows it; `family` tells which others are likely to begin with the same tokens."""

    prompt: Ids
    response: Ids
    family: Hashable = None

    @property
    def ids(self) -> Ids:
        """What the model reads: the last token of the response predicts nothing that is wanted."""
        return self.prompt + self.response[:-1]


@dataclass(frozen=True)
class PrefixGroup:
    """Texts, by their indices, that go through a model together; `begun` tokens that all have in common ran before them."""

    texts: list[int]
    begun: Ids = ()


@dataclass(frozen=True)
class Layout:
    """Texts as a model takes them.

    `places[first[i] + t]` is where, in the flattened hidden states, token t of the response of text i is predicted.
    `positions` are None where every row begins at 0. The ids of a `tree` are its segments one after the other, and its
    `begun` those that all its texts go on from.
    """

    ids: Int[Tensor, "rows length"]
    positions: Int[Tensor, "rows length"] | None
    places: Int[Tensor, " predicted"]
    first: Int[Tensor, " texts"]
    tree: Tree | None = None
    begun: Ids = ()

    def rows(self, text: Int[Tensor, " tokens"], token: Int[Tensor, " tokens"]) -> Int[Tensor, " tokens"]:
        """Return which of the flattened hidden states predict these tokens of the responses of these texts."""
        return self.places[self.first[text] + token]


def plan(texts: Sequence[Text], *, budget: int, mode: Mode, begins: bool = True, parted: bool = False) -> list[PrefixGroup]:
    """Group texts so that no group's layout takes more than `budget` tokens.

    Sorted by length, longest first, so that little is padded and too small a memory shows at once. Families stay together
    under `shared`; one that is too large alone is cut into several groups, all of its own, neighbours in the tree together,
    which go on from what its prompts begin with, if it `begins` in a run of its own. So do those of a family that is `parted`:
    others of it come later. A text that is longer than the budget stands alone.
    """
    families: dict[Hashable, list[int]] = {}
    for index in sorted(range(len(texts)), key=lambda i: -len(texts[i].ids)):
        families.setdefault(texts[index].family if mode == "shared" else index, []).append(index)
    cut: list[PrefixGroup] = []
    groups: list[list[int]] = []
    used = 0
    for members in families.values():
        own = size([texts[i].ids for i in members])
        if (own > budget and len(members) > 1) or (parted and mode == "shared"):
            cut += _cut(texts, members, budget, begins=begins)
            continue
        longest = len(texts[(groups[-1] if groups else members)[0]].ids)
        together = (len(groups[-1]) + 1) * longest if mode == "padded" and groups else used + own
        if groups and together <= budget:
            groups[-1] += members
            used = together
        else:
            groups.append(members)
            used = own
    return [*cut, *map(PrefixGroup, groups)]


def _cut(texts: Sequence[Text], members: Sequence[int], budget: int, *, begins: bool) -> list[PrefixGroup]:
    """Return the groups of one family, of nearly equal size; what they go on from takes its room in each.

    The last token of a prompt is never begun: its state predicts the response's first.
    """
    prompts = [texts[i].prompt[:-1] for i in members]
    begun = prompts[0][: min(common(prompts[0], prompt) for prompt in prompts)]
    if not begins or len(begun) < _SHORTEST_BEGINNING:
        begun = ()
    rest = {i: texts[i].ids[len(begun) :] for i in sorted(members, key=lambda i: texts[i].ids)}
    room, whole = max(1, budget - len(begun)), size(list(rest.values()))
    fair = whole / max(1, -(-whole // room))
    groups: list[list[int]] = [[]]
    used = 0
    before: Ids = ()
    for index, ids in rest.items():
        more = len(ids) - common(before, ids)
        if groups[-1] and (used + more > room or used + more / 2 > fair):
            groups.append([])
            used, more = 0, len(ids)
        groups[-1].append(index)
        used, before = used + more, ids
    return [PrefixGroup(group, begun) for group in groups]


def lay_out(texts: Sequence[Text], *, pad_id: int, mode: Mode, begun: Ids = ()) -> Layout:
    """Return the texts in one of the forms; under `shared` without what they have `begun` with.

    No attention mask goes with padded rows: causal attention never looks to the right, so no token sees the padding; a
    mask would rule out the fused kernels, and with sliding windows leave padded rows with nothing to look at, which some
    attention implementations turn into NaN. In a packed row transformers keeps the texts apart by their positions.
    """
    if mode == "shared":
        return _as_tree(texts, begun)
    rows = [torch.tensor(text.ids, dtype=torch.long) for text in texts]
    lengths = torch.tensor([len(row) for row in rows])
    if mode == "packed":
        ids, starts = torch.cat(rows)[None], lengths.cumsum(0) - lengths
        positions = torch.cat([torch.arange(len(row)) for row in rows])[None]
    else:
        ids, positions = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=pad_id), None
        starts = torch.arange(len(rows)) * ids.shape[1]
    predicting = [
        torch.arange(len(text.prompt) - 1, len(text.ids)) + start for text, start in zip(texts, starts.tolist(), strict=True)
    ]
    return Layout(ids, positions, torch.cat(predicting), _starts([len(one) for one in predicting]))


def idle_layout() -> Layout:
    """Return the shortest layout there is, for a run of a model that is for nothing."""
    return lay_out([Text((0,), (0,))], pad_id=0, mode="padded")


def _as_tree(texts: Sequence[Text], begun: Ids) -> Layout:
    tree = grow([text.ids[len(begun) :] for text in texts])
    ends = list(accumulate(len(segment.ids) for segment in tree.segments))
    spans = [torch.arange(end - len(segment.ids), end) for end, segment in zip(ends, tree.segments, strict=True)]
    positions = [torch.arange(len(segment.ids)) + segment.begin + len(begun) for segment in tree.segments]
    predicting = [
        torch.cat([spans[i] for i in path])[len(text.prompt) - 1 - len(begun) :]
        for text, path in zip(texts, tree.paths, strict=True)
    ]
    return Layout(
        ids=torch.tensor([one for segment in tree.segments for one in segment.ids], dtype=torch.long)[None],
        positions=torch.cat(positions)[None],
        places=torch.cat(predicting),
        first=_starts([len(one) for one in predicting]),
        tree=tree,
        begun=begun,
    )


def _starts(lengths: Sequence[int]) -> Int[Tensor, " texts"]:
    return torch.tensor([0, *accumulate(lengths)][:-1])
