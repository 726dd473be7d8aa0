"""One test class per slot: derive from it and define the fixture `component`; pytest then finds one test per law."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, ClassVar

from rosd_kit.contracts import SLOTS, Component
from rosd_kit.testing.check import BENCH, Bench, Check, CheckFailed
from rosd_kit.testing.checks import checks_of

if TYPE_CHECKING:
    import pytest


class Suite:
    """The tests of one slot. Set `bench` if the general examples do not suit your component."""

    kind: ClassVar[str]
    bench: ClassVar[Bench] = BENCH

    def __init_subclass__(cls, kind: str = "", **more: object) -> None:
        super().__init_subclass__(**more)
        if kind:
            cls.kind = kind
            for check in checks_of(kind):
                setattr(cls, f"test_{check.name}", _test(check))


def _test(check: Check) -> Callable[..., None]:
    def test(self: Suite, component: Component) -> None:
        if component.kind != self.kind:
            raise CheckFailed(f"{type(self).__name__} tests {self.kind} components; {component.name!r} is a {component.kind}")
        check(component, self.bench)

    test.__doc__ = check.law
    test.__name__ = f"test_{check.name}"
    return test


def parametrize_with_checks(components: Sequence[Component], *, bench: Bench = BENCH) -> pytest.MarkDecorator:
    """Return a decorator that runs a test once per component and law, with the arguments `component` and `check`.

    The test calls `check(component)`. Raises `TypeError` if an item is not a component.
    """
    import pytest

    for component in components:
        if not isinstance(component, Component) or component.kind not in SLOTS:
            raise TypeError(f"parametrize_with_checks takes components, for example Full(); it was given {component!r}")
    pairs = [
        pytest.param(component, partial(check, bench=bench), id=f"{component.kind}-{component.name}-{check.name}")
        for component in components
        for check in checks_of(component.kind)
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
