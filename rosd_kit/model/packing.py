"""Plans micro-batches of token sequences and lays each of them out as model input.

    padded   One sequence per row, padded on the right.
    packed   All sequences in one row, one after the other, positions restarting at 0: no padding. For attention kernels
             that skip the area between sequences.
    shared   One row without padding in which every common prefix, of prompts and of responses, appears once
             (`prefix_tree.py`). A group too large for one micro-batch is cut into several, which continue from the cached
             keys and values of its prompts' common prefix; gradients flow back through them (`prefix_cache.py`).

No layout changes a sequence's hidden states beyond rounding. Does not know samples, weights or losses.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal

import torch
from jaxtyping import Int
from torch import Tensor

from rosd_kit.model.prefix_tree import Ids, PrefixTree, build_tree, common_prefix_length, tree_size
from rosd_kit.renames import accepts_old_fields

LayoutMode = Literal["padded", "packed", "shared"]
#: A shorter common prefix is not worth a forward pass for itself.
_SHORTEST_CACHED_PREFIX = 8


@dataclass(frozen=True)
class TokenSequence:
    """A prompt and its response. Sequences of one `group` are likely to share a prefix."""

    prompt: Ids
    response: Ids
    group: Hashable = None

    @property
    def ids(self) -> Ids:
        """The model's input: everything but the last token, which predicts nothing that is needed."""
        return self.prompt + self.response[:-1]


@dataclass(frozen=True)
class MicroBatchPlan:
    """The indices of the sequences that run together, and the cached prefix that all of them continue from, if any."""

    indices: list[int]
    prefix: Ids = ()


@accepts_old_fields("rosd_kit.model.packing.Layout")
@dataclass(frozen=True)
class Layout:
    """Sequences as model input.

    `state_indices[offsets[i] + t]` is the index, among the flattened hidden states, of the state that predicts token `t` of
    the response of sequence `i`. `positions` is None where every row starts at 0. With a `tree`, `ids` are its segments one
    after the other, without the cached `prefix` that they continue from. `lengths` are those of the sequences of a packed row.
    """

    ids: Int[Tensor, "rows length"]
    positions: Int[Tensor, "rows length"] | None
    state_indices: Int[Tensor, " predicted"]
    offsets: Int[Tensor, " sequences"]
    tree: PrefixTree | None = None
    prefix: Ids = ()
    lengths: tuple[int, ...] = ()

    def indices_of(self, sequence: Int[Tensor, " tokens"], token: Int[Tensor, " tokens"]) -> Int[Tensor, " tokens"]:
        """Return the indices of the flattened hidden states that predict these response tokens of these sequences."""
        return self.state_indices[self.offsets[sequence] + token]


def plan_micro_batches(
    sequences: Sequence[TokenSequence],
    *,
    budget: int,
    mode: LayoutMode,
    can_cache_prefix: bool = True,
    groups_continue: bool = False,
) -> list[MicroBatchPlan]:
    """Assign sequences to micro-batches whose layouts hold at most `budget` tokens each.

    Sequences are sorted by length, longest first, so that padding stays small and a lack of memory shows at once. Under
    `shared`, groups stay together. A group that exceeds the budget alone is cut into several micro-batches, which hold nothing
    else; neighbours in the prefix tree stay together, and with `can_cache_prefix` all continue from their prompts' common
    prefix. `groups_continue` says that more sequences of the same groups follow in a later call, so that caching pays even for
    a group that fits. A sequence longer than the budget gets a micro-batch to itself, with its duplicates in `shared`.
    """
    groups: dict[Hashable, list[int]] = {}
    for index in sorted(range(len(sequences)), key=lambda i: -len(sequences[i].ids)):
        groups.setdefault(sequences[index].group if mode == "shared" else index, []).append(index)
    cut_groups: list[MicroBatchPlan] = []
    batches: list[list[int]] = []
    tokens = 0  # in the last batch
    for members in groups.values():
        size = tree_size([sequences[i].ids for i in members])
        if (size > budget and len(members) > 1) or (groups_continue and mode == "shared"):
            cut_groups += _cut_group(sequences, members, budget, can_cache_prefix=can_cache_prefix)
            continue
        longest = len(sequences[(batches[-1] if batches else members)[0]].ids)
        combined = (len(batches[-1]) + 1) * longest if mode == "padded" and batches else tokens + size
        if batches and combined <= budget:
            batches[-1] += members
            tokens = combined
        else:
            batches.append(members)
            tokens = size
    return [*cut_groups, *map(MicroBatchPlan, batches)]


def _cut_group(
    sequences: Sequence[TokenSequence], members: Sequence[int], budget: int, *, can_cache_prefix: bool
) -> list[MicroBatchPlan]:
    """Cut one group into micro-batches of nearly equal size; the cached prefix counts against the budget of each.

    The prefix never includes a prompt's last token: its state predicts the first token of the response.
    """
    prompts = [sequences[i].prompt[:-1] for i in members]
    prefix = prompts[0][: min(common_prefix_length(prompts[0], prompt) for prompt in prompts)]
    if not can_cache_prefix or len(prefix) < _SHORTEST_CACHED_PREFIX:
        prefix = ()
    remainders = {i: sequences[i].ids[len(prefix) :] for i in sorted(members, key=lambda i: sequences[i].ids)}
    limit, total = max(1, budget - len(prefix)), tree_size(list(remainders.values()))
    target = total / max(1, -(-total // limit))
    batches: list[list[int]] = [[]]
    tokens = 0
    previous: Ids = ()
    for index, ids in remainders.items():
        added = len(ids) - common_prefix_length(previous, ids)
        if batches[-1] and (tokens + added > limit or tokens + added / 2 > target):
            batches.append([])
            tokens, added = 0, len(ids)
        batches[-1].append(index)
        tokens, previous = tokens + added, ids
    return [MicroBatchPlan(batch, prefix) for batch in batches]


def build_layout(sequences: Sequence[TokenSequence], *, pad_id: int, mode: LayoutMode, prefix: Ids = ()) -> Layout:
    """Lay sequences out as model input; under `shared` without the cached `prefix`, which all of them start with.

    Padded rows come without an attention mask: causal attention never looks to the right, so no token sees the padding. A mask
    would rule out the fused kernels, and with sliding windows would leave padded rows nothing to attend to, which some
    attention implementations turn into NaN. In a packed row transformers separates the sequences by their positions, and flash
    attention by their lengths.
    """
    if mode == "shared":
        return _tree_layout(sequences, prefix)
    rows = [torch.tensor(sequence.ids, dtype=torch.long) for sequence in sequences]
    lengths = torch.tensor([len(row) for row in rows])
    if mode == "packed":
        ids, starts = torch.cat(rows)[None], lengths.cumsum(0) - lengths
        positions = torch.cat([torch.arange(len(row)) for row in rows])[None]
    else:
        ids, positions = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=pad_id), None
        starts = torch.arange(len(rows)) * ids.shape[1]
    predicting = [
        torch.arange(len(sequence.prompt) - 1, len(sequence.ids)) + start
        for sequence, start in zip(sequences, starts.tolist(), strict=True)
    ]
    packed = tuple(lengths.tolist()) if mode == "packed" else ()
    return Layout(ids, positions, torch.cat(predicting), _offsets(predicting), lengths=packed)


def dummy_layout() -> Layout:
    """Return a one-token dummy batch, for ranks that run a model only to keep in step with the others."""
    return build_layout([TokenSequence((0,), (0,))], pad_id=0, mode="padded")


def _tree_layout(sequences: Sequence[TokenSequence], prefix: Ids) -> Layout:
    tree = build_tree([sequence.ids[len(prefix) :] for sequence in sequences])
    ends = list(accumulate(len(segment.ids) for segment in tree.segments))
    spans = [torch.arange(end - len(segment.ids), end) for end, segment in zip(ends, tree.segments, strict=True)]
    positions = [torch.arange(len(segment.ids)) + segment.start + len(prefix) for segment in tree.segments]
    predicting = [
        torch.cat([spans[i] for i in path])[len(sequence.prompt) - 1 - len(prefix) :]
        for sequence, path in zip(sequences, tree.paths, strict=True)
    ]
    return Layout(
        ids=torch.tensor([token for segment in tree.segments for token in segment.ids], dtype=torch.long)[None],
        positions=torch.cat(positions)[None],
        state_indices=torch.cat(predicting),
        offsets=_offsets(predicting),
        tree=tree,
        prefix=prefix,
    )


def _offsets(tensors: Sequence[Tensor]) -> Int[Tensor, " sequences"]:
    """Return where each tensor starts once they are concatenated."""
    return torch.tensor([0, *accumulate(len(tensor) for tensor in tensors)][:-1])
