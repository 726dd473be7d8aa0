"""Defines what a check is: one law of one slot, with the function that tries a component against it.

It knows neither pytest nor the laws; those are in `checks/`, one file per slot.
"""

from __future__ import annotations

import copy
import inspect
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast
from unittest import SkipTest

from rosd_kit.contracts import Component, LossParts, Objective
from rosd_kit.testing.builders import fake_problem
from rosd_kit.types import Case, Problem

C = TypeVar("C", bound=Component)

#: The kind of the laws that hold in every slot.
EVERY = "every"


@dataclass(frozen=True, kw_only=True)
class Bench:
    """The inputs that a component is tried with, for components that the general examples do not suit.

    `problem` is the problem given to verifiers, gates and contexts: pass one with the `meta` that yours reads. `cases` are
    tried in addition to the kit's own awkward cases.
    """

    problem: Problem = field(default_factory=fake_problem)
    cases: tuple[Case, ...] = ()


BENCH = Bench()


class CheckFailed(AssertionError):
    """A component broke a law. The message says where, a note says which law."""


@dataclass(frozen=True)
class Check:
    """One law of one slot; call it with a component.

    Raises `CheckFailed` if the component breaks the law, and `SkipTest` if the law does not apply to the component.
    """

    kind: str
    function: Callable[[Any, Bench], None]  # takes a component of the check's slot

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


#: Slot (or `EVERY`) to its checks, in the order in which they are defined.
CHECKS: dict[str, list[Check]] = {}


def check(kind: str) -> Callable[[Callable[[C, Bench], None]], Check]:
    """Make a function a check of a slot, or of `EVERY` slot."""

    def register(function: Callable[[C, Bench], None]) -> Check:
        registered = Check(kind, function)
        CHECKS.setdefault(kind, []).append(registered)
        return registered

    return register


def require(condition: object, message: str) -> None:
    """Raise `CheckFailed` with this message unless the condition is true."""
    if not condition:
        raise CheckFailed(message)


@contextmanager
def must_not_raise(where: str) -> Iterator[None]:
    """Turn an exception of a component into a `CheckFailed` that names the exception and its line, for laws that forbid any."""
    try:
        yield
    except CheckFailed:
        raise
    except Exception as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        line = f"line {frame.lineno} of {frame.filename}"
        raise CheckFailed(f"{where}: it raised {type(error).__name__}: {error} ({line})") from error


def does_not_apply(reason: str) -> SkipTest:
    """Return the exception to raise when a law does not apply to a component; pytest reports it as skipped."""
    return SkipTest(reason)


def rebuilt(component: C) -> C:
    """Return a new component with the same options, as a resumed run builds it."""
    if isinstance(component, Objective):
        return cast(C, type(component)(component.config, component.parts))
    if vars(type(component)).get("build") is not None:  # made of other components, which a copy includes
        return copy.deepcopy(component)
    return type(component)(component.config)


def with_loss_parts(component: C) -> C:
    """Give an objective without parts the parts that it may call; return any other component as it is."""
    if isinstance(component, Objective) and component.parts is None:
        from rosd_kit.components.corrections.none import NoCorrection
        from rosd_kit.components.divergences.jsd import JSD
        from rosd_kit.components.supports.full import Full

        parts = LossParts(support=Full(), divergence=JSD(), correction=NoCorrection())
        return cast(C, type(component)(component.config, parts))
    return component
