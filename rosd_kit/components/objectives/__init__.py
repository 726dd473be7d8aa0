"""Objectives: the terms of the loss."""

from __future__ import annotations

from rosd_kit.components.objectives.distill import Distill
from rosd_kit.components.objectives.policy_gradient import PolicyGradient
from rosd_kit.components.objectives.sft import SupervisedFineTuning

COMPONENTS = (Distill, PolicyGradient, SupervisedFineTuning)
