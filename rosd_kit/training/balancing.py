"""Who trains on which samples, and how processes that hold pieces of one model stay in step.

Knows nothing of losses.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest

from rosd_kit.model.packing import Text
from rosd_kit.model.prefix_tree import size
from rosd_kit.parallel.ranks import Ranks


def share_out(places: Sequence[int], texts: Sequence[Text], count: int) -> list[list[int]]:
    """Deal samples out to so many processes: families whole, about equally many tokens each (what a family has in common
    counts once), each in its first order.

    `places` name the samples whose texts are given. Every process comes to the same result.
    """
    families: dict[object, list[int]] = {}
    for index, text in enumerate(texts):
        families.setdefault(text.family, []).append(index)
    shares: list[list[int]] = [[] for _ in range(count)]
    loads = [0] * count
    sizes = [(size([texts[i].ids for i in members]), members) for members in families.values()]
    for tokens, members in sorted(sizes, key=lambda pair: -pair[0]):
        least = loads.index(min(loads))
        loads[least] += tokens
        shares[least] += members
    return [[places[i] for i in sorted(share)] for share in shares]


def in_step(own: Sequence[Sequence[int]], ranks: Ranks) -> list[list[int]]:
    """Return for each micro-batch how often each teacher model must run in every process, given how often it must in this one.

    Processes with fewer micro-batches get as many as the one with most.
    """
    everyone = ranks.gather([list(passes) for passes in own])
    rounds = zip_longest(*everyone, fillvalue=[])
    return [[max(times) for times in zip_longest(*each, fillvalue=0)] for each in rounds]
