"""What a check is: one law, a function that tries a component against it, and how it says what it found.

It knows neither pytest nor the laws themselves; those are in `checks/`, one file a slot.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from unittest import SkipTest

from rosd_kit.contracts import Component, LossParts, Objective
from rosd_kit.testing.builders import fake_problem
from rosd_kit.types import Case, Problem

#: The name of the laws that hold in every slot.
EVERY = "every"


@dataclass(frozen=True, kw_only=True)
class Bench:
    """What a component is tried with, where the general examples do not suit it.

    `problem` is what verifiers, gates and contexts are tried on: give one with the `meta` that yours reads. `cases` are
    tried besides the awkward ones that the kit has of its own.
    """

    problem: Problem = field(default_factory=fake_problem)
    cases: tuple[Case, ...] = ()


BENCH = Bench()


class CheckFailed(AssertionError):
    """A component broke a law; the message says where, a note says which."""


@dataclass(frozen=True)
class Check:
    """One law of one slot, called with a component.

    It raises `CheckFailed` where the component breaks it, and `SkipTest` where it says nothing of the component.
    """

    kind: str
    function: Callable[[Any, Bench], None]

    @property
    def name(self) -> str:
        """The check's name without `check_`."""
        return self.function.__name__.removeprefix("check_")

    @property
    def law(self) -> str:
        """What must hold, in one sentence or a few."""
        return " ".join((inspect.getdoc(self.function) or "").split())

    def __call__(self, component: Component, bench: Bench = BENCH) -> None:
        try:
            self.function(component, bench)
        except SkipTest:
            raise
        except Exception as error:
            error.add_note(f"law {self.name!r} of {self.kind} components: {self.law}")
            raise

    def __str__(self) -> str:
        return self.name


_CHECKS: dict[str, list[Check]] = {}


def check(kind: str) -> Callable[[Callable[[Any, Bench], None]], Check]:
    """Make a function a check of a slot, or of `EVERY` slot."""

    def register(function: Callable[[Any, Bench], None]) -> Check:
        made = Check(kind, function)
        _CHECKS.setdefault(kind, []).append(made)
        return made

    return register


def checks_of(kind: str) -> tuple[Check, ...]:
    """Return the checks that components of a slot must pass, those of every slot first."""
    from rosd_kit.testing import checks  # they register themselves

    assert checks is not None
    return (*_CHECKS[EVERY], *_CHECKS.get(kind, ()))


def demand(holds: object, found: str) -> None:
    """Raise `CheckFailed` with what was found unless the condition holds."""
    if not holds:
        raise CheckFailed(found)


def does_not_apply(reason: str) -> SkipTest:
    """Return what to raise where a law says nothing of a component; pytest shows it as skipped."""
    return SkipTest(reason)


def another(component: Component) -> Any:
    """Return a new component with the same options, as a resumed run builds it."""
    if isinstance(component, Objective):
        return type(component)(component.config, component.parts)
    if vars(type(component)).get("build") is not None:  # made of others, which a copy brings along
        return copy.deepcopy(component)
    return type(component)(component.config)


def with_parts(component: Component) -> Any:
    """Return an objective with parts that it may call, where it has none; every other component as it is."""
    if isinstance(component, Objective) and component.parts is None:
        from rosd_kit.components.corrections.none import NoCorrection
        from rosd_kit.components.divergences.jsd import JSD
        from rosd_kit.components.supports.full import Full

        return type(component)(component.config, LossParts(support=Full(), divergence=JSD(), correction=NoCorrection()))
    return component


def bound(made: Check, bench: Bench) -> Callable[[Component], None]:
    """Return a check that is called with a component alone."""
    return partial(made, bench=bench)
