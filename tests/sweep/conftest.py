"""What the tests of sweeps share: the registry, small sweeps of the embedded laboratory, and the command line."""

from __future__ import annotations

import pytest

from rosd_kit.plugins.manager import PluginManager
from rosd_kit.sweep.plan import make_plan
from rosd_kit.sweep.settings import read_sweep

#: The least that is still real training.
SMALL = (
    "problems_per_step=8",
    "group_size=4",
    "evaluation.problems=4",
    "evaluation.samples=1",
    "evaluation.every=0",
    "samples.every=0",
)


@pytest.fixture(scope="session")
def registry():
    return PluginManager(selection="builtin").registry


@pytest.fixture
def plan(registry):
    """Return the plan that words of the command line stand for."""
    return lambda what, *words, **options: make_plan(read_sweep(what, words, **options), registry)
