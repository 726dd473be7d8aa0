"""Finds the successful siblings of a rollout and turns them into views."""

from __future__ import annotations

from rosd_kit.types import Group, Rollout, View


def successes(group: Group, rollout: Rollout) -> list[Rollout]:
    """Return the other successful rollouts of the group, in sampling order."""
    return [other for other in group.rollouts if other.verdict.success and other.index != rollout.index]


def as_views(siblings: list[Rollout]) -> tuple[View, ...]:
    """Return one view per sibling, with its text."""
    return tuple(View(text=s.completion.text, source=f"sibling {s.index}") for s in siblings)
