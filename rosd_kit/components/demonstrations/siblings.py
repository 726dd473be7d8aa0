"""Demonstrations from a rollout's own group: what the siblings that succeeded wrote."""

from __future__ import annotations

from rosd_kit.types import Group, Rollout, View


def successes(group: Group, rollout: Rollout) -> list[Rollout]:
    """Return the successful siblings of a rollout, never itself, in the order in which they were sampled."""
    return [other for other in group.rollouts if other.verdict.success and other.index != rollout.index]


def as_views(siblings: list[Rollout]) -> tuple[View, ...]:
    """Return each sibling's text as a view."""
    return tuple(View(text=s.completion.text, source=f"sibling {s.index}") for s in siblings)
