"""The laws of demonstrations: each rollout is shown texts of others, never its own."""

from __future__ import annotations

import random
from collections.abc import Iterator

from rosd_kit.contracts import Demonstration
from rosd_kit.testing.check import Bench, check, does_not_apply, require
from rosd_kit.testing.examples import groups
from rosd_kit.types import Group, Rollout, View


def _all_views(demonstration: Demonstration, bench: Bench) -> Iterator[tuple[str, Rollout, Group, tuple[View, ...]]]:
    """Yield (where, rollout, group, views) for every rollout and three seeds."""
    batch = groups(bench)
    for name, group in batch.items():
        for rollout in group.rollouts:
            for seed in range(3):
                views = demonstration.views(group, rollout, list(batch.values()), random.Random(seed))
                yield f"{name}, rollout {rollout.index}", rollout, group, views


@check("demonstration")
def check_views_are_valid(demonstration: Demonstration, bench: Bench) -> None:
    """`views` returns a tuple of `View`, empty if there is none; each has a text, and a source that says where it came from."""
    for name, _, _, views in _all_views(demonstration, bench):
        require(isinstance(views, tuple) and all(isinstance(view, View) for view in views), f"{name}: {views!r}")
        for view in views:
            require(isinstance(view.text, str) and view.text.strip(), f"{name}: the text is {view.text!r}")
            require(isinstance(view.source, str) and view.source.strip(), f"{name}: the source is {view.source!r}")


@check("demonstration")
def check_never_shows_a_rollout_itself(demonstration: Demonstration, bench: Bench) -> None:
    """A rollout is never shown its own text, even if it is the only success of its group."""
    for name, rollout, _, views in _all_views(demonstration, bench):
        text = rollout.completion.text.strip()
        for view in views:
            require(not text or text not in view.text, f"{name}: it is shown its own text, as {view.source!r}")


@check("demonstration")
def check_declares_sees_batch(demonstration: Demonstration, bench: Bench) -> None:
    """Without `sees_batch` the views depend only on the rollout's group: the other groups may not be sampled yet."""
    if demonstration.sees_batch:
        raise does_not_apply("its class sets sees_batch = True")
    batch = groups(bench)
    for name, group in batch.items():
        for rollout in group.rollouts:
            with_batch = demonstration.views(group, rollout, list(batch.values()), random.Random(0))
            alone = demonstration.views(group, rollout, [group], random.Random(0))
            require(
                with_batch == alone,
                f"{name}, rollout {rollout.index}: {len(with_batch)} views with the batch and {len(alone)} without differ",
            )
