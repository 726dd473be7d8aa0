"""The laws, one file a slot; importing them makes them known."""

from rosd_kit.testing.checks import (
    common,
    context,
    correction,
    demonstration,
    divergence,
    gate,
    localizer,
    objective,
    reflector,
    rollout,
    support,
    task,
    teacher,
    verifier,
)

__all__ = [
    "common",
    "context",
    "correction",
    "demonstration",
    "divergence",
    "gate",
    "localizer",
    "objective",
    "reflector",
    "rollout",
    "support",
    "task",
    "teacher",
    "verifier",
]
