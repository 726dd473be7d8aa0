"""Assigns samples to ranks, and keeps forward counts equal across ranks under FSDP. Does not know losses."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest

from rosd_kit.model.packing import TokenSequence
from rosd_kit.model.prefix_tree import tree_size
from rosd_kit.parallel.ranks import Ranks


def assign_to_ranks(indices: Sequence[int], sequences: Sequence[TokenSequence], ranks: int) -> list[list[int]]:
    """Return the sample indices of each rank: groups stay whole, token counts are about equal, order is kept.

    `indices` are the samples' indices in the step, `sequences` their tokens; a prefix that a group shares counts once. Every
    rank computes the same assignment.
    """
    groups: dict[object, list[int]] = {}
    for position, sequence in enumerate(sequences):
        groups.setdefault(sequence.group, []).append(position)
    assigned: list[list[int]] = [[] for _ in range(ranks)]
    loads = [0] * ranks
    sizes = [(tree_size([sequences[i].ids for i in members]), members) for members in groups.values()]
    for tokens, members in sorted(sizes, key=lambda pair: -pair[0]):
        lightest = loads.index(min(loads))
        loads[lightest] += tokens
        assigned[lightest] += members
    return [[indices[i] for i in sorted(members)] for members in assigned]


def equalize_passes(passes: Sequence[Sequence[int]], ranks: Ranks) -> list[list[int]]:
    """Return how often each teacher model must run in each micro-batch, so that all ranks make the same number of passes.

    `passes[i][j]` is how often this rank needs teacher model `j` in micro-batch `i`. Ranks with fewer micro-batches get as many
    as the rank with most.
    """
    every_rank = ranks.gather([list(counts) for counts in passes])
    micro_batches = zip_longest(*every_rank, fillvalue=[])
    return [[max(counts) for counts in zip_longest(*each, fillvalue=0)] for each in micro_batches]
