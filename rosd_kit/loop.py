"""The whole training run, from a recipe to a table: read it top to bottom.

It knows the slots' order and nothing of any method: what is sampled, gated, diagnosed and distilled is the parts' affair.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch

from rosd_kit.display import Display, RunSummary
from rosd_kit.errors import RunError
from rosd_kit.evaluation.suites import SuiteResult, evaluate_suites
from rosd_kit.parts import Parts
from rosd_kit.pipeline import Pipeline
from rosd_kit.plugins import PluginManager
from rosd_kit.recipe import Recipe
from rosd_kit.rundir import RunDir
from rosd_kit.signals import SignalWatch
from rosd_kit.summary import Totals, summarise
from rosd_kit.train.checkpoint import Checkpoints
from rosd_kit.train.optimizer import Optimizer
from rosd_kit.train.scoring import LossReport, backward_step
from rosd_kit.train.student import Student
from rosd_kit.types import StepBatch


@dataclass
class Run:
    """A run in progress: what observers see, and what the loop works on."""

    recipe: Recipe
    folder: RunDir
    student: Student
    parts: Parts
    optimizer: Optimizer
    pipeline: Pipeline
    plugins: PluginManager
    display: Display
    step: int = 0
    totals: Totals = field(default_factory=Totals)
    watch: SignalWatch = field(default_factory=SignalWatch)
    results: dict[int, tuple[SuiteResult, ...]] = field(default_factory=dict)
