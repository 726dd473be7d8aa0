"""Every built-in component keeps the laws that plugins must keep."""

from __future__ import annotations

from rosd_kit.components.localizers import COMPONENTS
from rosd_kit.testing import parametrize_with_checks


@parametrize_with_checks([cls() for cls in COMPONENTS])
def test_conformance(component, check):
    check(component)
