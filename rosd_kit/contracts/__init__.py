"""One base class per slot: what a component does, when it is called, with which shapes, and what it may raise.

A component is a class with a `name`, a nested `Config` and the methods of its slot. The first sentence of its docstring is what
`rosd-kit components` prints. The core calls components through these classes and knows no method by name.

Read in this order, which is that of the data: `component`, `policy`, `task`, `rollout`, `verifier`, `diagnosis` (gate to
localizer), `teaching` (context, teacher), `loss` (support to objective).
"""

from __future__ import annotations

from rosd_kit.contracts.component import Component, Mebibytes, Seconds, Workers
from rosd_kit.contracts.diagnosis import Demonstration, Gate, Generate, Localizer, Reflector
from rosd_kit.contracts.loss import Correction, Divergence, LossParts, Objective, Projection, Support, TokenScores
from rosd_kit.contracts.policy import Generator, LoadOptions, Policy
from rosd_kit.contracts.rollout import RolloutEngine, Site
from rosd_kit.contracts.task import GoldCheck, Task
from rosd_kit.contracts.teaching import Context, Teacher, TeacherModel
from rosd_kit.contracts.verifier import Verifier
from rosd_kit.options import Config

__all__ = [
    "SLOTS",
    "Component",
    "Config",
    "Context",
    "Correction",
    "Demonstration",
    "Divergence",
    "Gate",
    "Generate",
    "Generator",
    "GoldCheck",
    "LoadOptions",
    "Localizer",
    "LossParts",
    "Mebibytes",
    "Objective",
    "Policy",
    "Projection",
    "Reflector",
    "RolloutEngine",
    "Seconds",
    "Site",
    "Support",
    "Task",
    "Teacher",
    "TeacherModel",
    "TokenScores",
    "Verifier",
    "Workers",
]

SLOTS: dict[str, type[Component]] = {
    base.kind: base
    for base in (
        Task,
        Verifier,
        RolloutEngine,
        Gate,
        Demonstration,
        Reflector,
        Localizer,
        Context,
        Teacher,
        Support,
        Divergence,
        Correction,
        Objective,
    )
}
"""Slot name to base class, in the order in which data passes through the slots."""
