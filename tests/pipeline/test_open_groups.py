"""Which groups a step works on, where some stay open from step to step."""

from __future__ import annotations

from collections import Counter

import pytest

from rosd_kit.pipeline.open_groups import OpenGroups
from rosd_kit.types import Message, Problem


def problem(number: int) -> Problem:
    return Problem(id=str(number), messages=(Message(role="user", content="?"),), answer="1", suite="s")


def groups_of(size: int, *, step: int, wanted: int) -> OpenGroups:
    """Return groups of a set of `size` problems, which comes round again and again, `step` at a time."""
    return OpenGroups(lambda n: [problem((n * step + i) % size) for i in range(step)], wanted=wanted, size=2)


def trained(groups: OpenGroups, steps: int, step: int) -> Counter[str]:
    """Train on groups by number, as if those with large numbers took up to three steps; return how often on which."""
    counts: Counter[str] = Counter()
    ages: Counter[tuple[int, int]] = Counter()
    for _ in range(steps):
        opened = groups.take()
        ages.update((group.step, group.index) for group in opened)
        opened.sort(key=lambda group: (ages[group.step, group.index] < 3, int(group.problem.id)))
        assert len({group.problem.id for group in opened}) == len(opened)
        counts.update(group.problem.id for group in opened[:step])
        groups.put_back(opened[step:])
    return counts


@pytest.mark.parametrize(("size", "step", "extra"), [(12, 4, 2), (10, 4, 4), (40, 8, 2)])
def test_all_problems_of_a_finite_set_are_trained_on_alike(size, step, extra):
    counts = trained(groups_of(size, step=step, wanted=step + extra), 40 * size // step, step)
    assert len(counts) == size and max(counts.values()) - min(counts.values()) <= 4, counts


def test_a_set_that_is_smaller_than_what_is_wanted_is_opened_as_a_whole():
    groups = groups_of(5, step=5, wanted=8)
    opened = groups.take()
    assert len(opened) == 5
    groups.put_back(opened[3:])
    assert [group.problem.id for group in groups.take()] == ["3", "4", "0", "1", "2"]


def test_what_is_open_and_what_waits_survives_a_checkpoint():
    groups = groups_of(40, step=4, wanted=6)
    groups.put_back(groups.take()[4:])
    copy = groups_of(40, step=4, wanted=6)
    copy.load_state(groups.state())
    assert copy.take() == groups.take()
    assert copy.state() == groups.state()
