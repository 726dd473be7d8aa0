"""The laws, one file per slot. Importing a file registers its checks."""

from __future__ import annotations

from rosd_kit.testing.check import CHECKS, EVERY, Check
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
    "checks_of",
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


def checks_of(kind: str) -> tuple[Check, ...]:
    """Return the checks that components of a slot must pass, those of every slot first."""
    return (*CHECKS[EVERY], *CHECKS.get(kind, ()))
