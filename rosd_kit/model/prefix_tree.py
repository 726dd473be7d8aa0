"""Texts as a tree: what several of them begin with is one segment, and each is a path from a root.

Nothing here is about models: `branching.py` runs attention along the paths.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

Ids = tuple[int, ...]


@dataclass(frozen=True)
class Segment:
    """Tokens without a branch between them, and the segments, outermost first, that lead there.

    `chain` are indices of earlier segments of the tree.
    """

    ids: Ids
    begin: int
    chain: tuple[int, ...]


@dataclass(frozen=True)
class Tree:
    """Segments, each behind those that it goes on from, and for each text its path: segments that make it up, in order."""

    segments: tuple[Segment, ...]
    paths: tuple[tuple[int, ...], ...]


@dataclass
class _Node:
    """A segment in the making: the places `begin` to `end` of a text, by its rank among the sorted ones."""

    text: int
    begin: int
    end: int
    parent: _Node | None


def grow(texts: Sequence[Ids]) -> Tree:
    """Return the tree of these texts. Equal texts have one path; there are fewer than twice as many segments as texts.

    `Segment.begin` is the place of the segment's first token in every text that goes through it.
    """
    nodes: list[_Node] = []
    leaves: list[_Node | None] = [None] * len(texts)
    path: list[_Node] = []
    before: Ids = ()
    order = sorted(range(len(texts)), key=lambda i: texts[i])
    for place, index in enumerate(order):
        ids = texts[index]
        alike = common(before, ids)
        while path and path[-1].begin >= alike:
            path.pop()
        if path and path[-1].end > alike:
            lower = path.pop()
            upper = _Node(lower.text, lower.begin, alike, lower.parent)
            lower.begin, lower.parent = alike, upper
            nodes.append(upper)
            path.append(upper)
        if alike < len(ids):
            path.append(_Node(place, alike, len(ids), path[-1] if path else None))
            nodes.append(path[-1])
        leaves[index] = path[-1] if path else None
        before = ids
    return _numbered([texts[index] for index in order], nodes, leaves)


def size(texts: Sequence[Ids]) -> int:
    """Return how many tokens the tree of these texts has."""
    ordered = sorted(texts)
    return sum(len(ids) - common(before, ids) for before, ids in zip([(), *ordered], ordered, strict=False))


def common(one: Ids, other: Ids) -> int:
    """Return how many tokens two texts begin with alike; by halves, for comparing slices is fast."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def _numbered(ordered: Sequence[Ids], nodes: list[_Node], leaves: Sequence[_Node | None]) -> Tree:
    nodes.sort(key=lambda node: (node.text, node.begin))  # what a node goes on from is of its own text or of an earlier one
    number = {id(node): place for place, node in enumerate(nodes)}
    chains: list[tuple[int, ...]] = []
    for node in nodes:
        parent = None if node.parent is None else number[id(node.parent)]
        chains.append(() if parent is None else (*chains[parent], parent))
    segments = tuple(
        Segment(ordered[node.text][node.begin : node.end], node.begin, chain) for node, chain in zip(nodes, chains, strict=True)
    )
    ends = [None if leaf is None else number[id(leaf)] for leaf in leaves]
    return Tree(segments, tuple(() if end is None else (*chains[end], end) for end in ends))
