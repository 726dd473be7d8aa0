"""One class a slot: derive from it, give it the fixture `component`, and pytest finds a test for each law."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from rosd_kit.contracts import SLOTS, Component
from rosd_kit.testing.check import BENCH, Bench, Check, CheckFailed, bound, checks_of


class Suite:
    """The tests of one slot. `bench` holds what they are tried with, where the general examples do not suit."""

    kind: ClassVar[str]
    bench: ClassVar[Bench] = BENCH

    def __init_subclass__(cls, kind: str = "", **more: Any) -> None:
        super().__init_subclass__(**more)
        if kind:
            cls.kind = kind
            for made in checks_of(kind):
                setattr(cls, f"test_{made.name}", _test(made))


def _test(made: Check) -> Callable[..., None]:
    def test(self: Suite, component: Component) -> None:
        if component.kind != self.kind:
            raise CheckFailed(f"{type(self).__name__} tests {self.kind} components; {component.name!r} is a {component.kind}")
        made(component, self.bench)

    test.__doc__ = made.law
    test.__name__ = f"test_{made.name}"
    return test


def parametrize_with_checks(components: Sequence[Component], *, bench: Bench = BENCH) -> Any:
    """Return a decorator that runs a test with every component and each of its checks: `check(component)`."""
    import pytest

    for component in components:
        if not isinstance(component, Component) or component.kind not in SLOTS:
            raise TypeError(f"parametrize_with_checks takes components, such as Full(); it was given {component!r}")
    pairs = [
        pytest.param(component, bound(made, bench), id=f"{component.kind}-{component.name}-{made.name}")
        for component in components
        for made in checks_of(component.kind)
    ]
    return pytest.mark.parametrize(("component", "check"), pairs)


class TaskSuite(Suite, kind="task"):
    """The laws of `rosd_kit.Task`."""


class VerifierSuite(Suite, kind="verifier"):
    """The laws of `rosd_kit.Verifier`."""


class RolloutSuite(Suite, kind="rollout"):
    """The laws of `rosd_kit.RolloutEngine`."""


class GateSuite(Suite, kind="gate"):
    """The laws of `rosd_kit.Gate`."""


class DemonstrationSuite(Suite, kind="demonstration"):
    """The laws of `rosd_kit.Demonstration`."""


class ReflectorSuite(Suite, kind="reflector"):
    """The laws of `rosd_kit.Reflector`."""


class LocalizerSuite(Suite, kind="localizer"):
    """The laws of `rosd_kit.Localizer`."""


class ContextSuite(Suite, kind="context"):
    """The laws of `rosd_kit.Context`."""


class TeacherSuite(Suite, kind="teacher"):
    """The laws of `rosd_kit.Teacher`."""


class SupportSuite(Suite, kind="support"):
    """The laws of `rosd_kit.Support`."""


class DivergenceSuite(Suite, kind="divergence"):
    """The laws of `rosd_kit.Divergence`."""


class CorrectionSuite(Suite, kind="correction"):
    """The laws of `rosd_kit.Correction`."""


class ObjectiveSuite(Suite, kind="objective"):
    """The laws of `rosd_kit.Objective`."""


SUITES: dict[str, type[Suite]] = {suite.kind: suite for suite in Suite.__subclasses__()}
"""Slot name to suite."""
