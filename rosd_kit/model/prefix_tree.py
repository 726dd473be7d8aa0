"""Token sequences as a prefix tree: a prefix that several sequences share is one segment; each sequence is a path from a root.

    sequences            tree (segments)        paths
    1 2 3 20 21          [1 2]                  [1 2] [3] [20 21]
    1 2 3 23              +-- [3]               [1 2] [3] [23]
    1 2 4                 |    +-- [20 21]      [1 2] [4]
                          |    +-- [23]
                          +-- [4]

Does not know models: `tree_attention.py` runs attention along the paths.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

Ids = tuple[int, ...]


@dataclass(frozen=True)
class Segment:
    """A run of tokens without a branch inside.

    `start` is the index of its first token in every sequence that passes through it. `ancestors` are the indices of the
    segments that precede it on its path, outermost first; all of them come earlier in the tree's list.
    """

    ids: Ids
    start: int
    ancestors: tuple[int, ...]


@dataclass(frozen=True)
class PrefixTree:
    """The segments, each after its ancestors, and for each sequence the segments that make it up, in order."""

    segments: tuple[Segment, ...]
    paths: tuple[tuple[int, ...], ...]


@dataclass
class _Node:
    """A segment under construction: tokens `start` to `end` of the sequence with this rank in sorted order."""

    sequence: int
    start: int
    end: int
    parent: _Node | None


def build_tree(sequences: Sequence[Ids]) -> PrefixTree:
    """Return the prefix tree of these sequences.

    Equal sequences share one path. There are fewer than twice as many segments as sequences.
    """
    nodes: list[_Node] = []
    leaves: list[_Node | None] = [None] * len(sequences)
    path: list[_Node] = []
    previous: Ids = ()
    order = sorted(range(len(sequences)), key=lambda i: sequences[i])
    for rank, index in enumerate(order):
        ids = sequences[index]
        shared = common_prefix_length(previous, ids)
        while path and path[-1].start >= shared:
            path.pop()
        if path and path[-1].end > shared:
            lower = path.pop()
            upper = _Node(lower.sequence, lower.start, shared, lower.parent)
            lower.start, lower.parent = shared, upper
            nodes.append(upper)
            path.append(upper)
        if shared < len(ids):
            path.append(_Node(rank, shared, len(ids), path[-1] if path else None))
            nodes.append(path[-1])
        leaves[index] = path[-1] if path else None
        previous = ids
    return _index_segments([sequences[index] for index in order], nodes, leaves)


def tree_size(sequences: Sequence[Ids]) -> int:
    """Return the number of tokens in the prefix tree of these sequences, without building it."""
    ordered = sorted(sequences)
    return sum(len(ids) - common_prefix_length(previous, ids) for previous, ids in zip([(), *ordered], ordered, strict=False))


def common_prefix_length(one: Ids, other: Ids) -> int:
    """Return the length of the longest common prefix.

    Bisects, because comparing slices is much faster than comparing tokens one by one.
    """
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def _index_segments(ordered: Sequence[Ids], nodes: list[_Node], leaves: Sequence[_Node | None]) -> PrefixTree:
    """Turn nodes into indexed segments. A parent belongs to the same sequence or to an earlier one, so it sorts first."""
    nodes.sort(key=lambda node: (node.sequence, node.start))
    index_of = {id(node): index for index, node in enumerate(nodes)}
    ancestors: list[tuple[int, ...]] = []
    for node in nodes:
        parent = None if node.parent is None else index_of[id(node.parent)]
        ancestors.append(() if parent is None else (*ancestors[parent], parent))
    segments = tuple(
        Segment(ordered[node.sequence][node.start : node.end], node.start, above)
        for node, above in zip(nodes, ancestors, strict=True)
    )
    ends = [None if leaf is None else index_of[id(leaf)] for leaf in leaves]
    return PrefixTree(segments, tuple(() if end is None else (*ancestors[end], end) for end in ends))
