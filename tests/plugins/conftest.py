"""Plugins as users have them: a module in an installed distribution with entry points."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest

from rosd_kit.plugins.manager import VARIABLE

GOOD = """
import rosd_kit as rk

class Everywhere(rk.Localizer):
    "Weights all tokens."
    name = "everywhere"
    def locate(self, case):
        return rk.TokenWeights(weights=(1.0,) * len(case.rollout.completion.token_ids), outcome="full")

@rk.hookimpl
def rosd_kit_components():
    return [Everywhere]
"""


@pytest.fixture(scope="session")
def good() -> str:
    """Return the source of a plugin that brings the localizer `everywhere`."""
    return GOOD


@pytest.fixture
def install(tmp_path, monkeypatch) -> Callable[..., None]:
    """Install a module as a distribution with entry points of the group `rosd_kit`, by default one of its own name."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delenv(VARIABLE, raising=False)

    def put(name: str, source: str, version: str = "1.2.3", points: str = "{name} = {name}_module") -> None:
        (tmp_path / f"{name}_module.py").write_text(source)
        info = tmp_path / f"{name}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        (info / "entry_points.txt").write_text(f"[rosd_kit]\n{points.format(name=name)}\n")
        monkeypatch.delitem(sys.modules, f"{name}_module", raising=False)

    return put
