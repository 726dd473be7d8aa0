"""Fixtures for the tests of sweeps: the registry and plans; and the smallest training settings."""

from __future__ import annotations

import pytest

from rosd_kit.plugins.manager import PluginManager
from rosd_kit.sweep.plan import make_plan
from rosd_kit.sweep.settings import read_sweep

#: The smallest settings with which training still does something.
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
    """Return a function that plans a sweep from command-line words."""
    return lambda source, *words, **options: make_plan(read_sweep(source, words, **options), registry)
