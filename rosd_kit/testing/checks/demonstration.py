"""The laws of demonstrations: texts of others."""

from __future__ import annotations

import random
from collections.abc import Iterator

from rosd_kit.contracts import Demonstration
from rosd_kit.testing.check import Bench, check, demand, does_not_apply
from rosd_kit.testing.examples import groups
from rosd_kit.types import Group, Rollout, View


def _asked(demonstration: Demonstration, bench: Bench) -> Iterator[tuple[str, Rollout, Group, tuple[View, ...]]]:
    """Yield what is shown to every rollout, with three draws of the rng each."""
    known = groups(bench)
    for name, group in known.items():
        for rollout in group.rollouts:
            for seed in range(3):
                shown = demonstration.views(group, rollout, list(known.values()), random.Random(seed))
                yield f"{name}, rollout {rollout.index}", rollout, group, shown


@check("demonstration")
def check_views_are_texts(demonstration: Demonstration, bench: Bench) -> None:
    """`views` returns a tuple of `View`, each with a text and a source that says where it came from; none is an empty tuple."""
    for name, _, _, views in _asked(demonstration, bench):
        demand(isinstance(views, tuple) and all(isinstance(view, View) for view in views), f"{name}: {views!r}")
        for view in views:
            demand(isinstance(view.text, str) and view.text.strip(), f"{name}: the text is {view.text!r}")
            demand(isinstance(view.source, str) and view.source.strip(), f"{name}: the source is {view.source!r}")


@check("demonstration")
def check_never_itself(demonstration: Demonstration, bench: Bench) -> None:
    """A rollout is never shown itself, also when it is the only success of its group."""
    for name, rollout, _, views in _asked(demonstration, bench):
        own = rollout.completion.text.strip()
        for view in views:
            demand(not own or own not in view.text, f"{name}: it is shown its own text, as {view.source!r}")


@check("demonstration")
def check_says_when_it_sees_the_batch(demonstration: Demonstration, bench: Bench) -> None:
    """Without `sees_batch` what is shown depends on the rollout's group alone: the others may not be sampled yet."""
    if demonstration.sees_batch:
        raise does_not_apply("it says sees_batch")
    known = groups(bench)
    for name, group in known.items():
        for rollout in group.rollouts:
            whole = demonstration.views(group, rollout, list(known.values()), random.Random(0))
            alone = demonstration.views(group, rollout, [group], random.Random(0))
            demand(
                whole == alone,
                f"{name}, rollout {rollout.index}: {len(whole)} views with the batch, {len(alone)} without, or others",
            )
