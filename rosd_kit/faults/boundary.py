"""Stands around every call of a component: checks what it returns, and what it leaves behind.

An exception that would end the process becomes an error that names the component. A plugin's calls must leave the process's
surroundings as they were; what they change is put back and reported once.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from types import TracebackType
from typing import TypeVar

from torch import Tensor

from rosd_kit.contracts import SLOTS, Component
from rosd_kit.errors import ComponentError, own_fault, shortened
from rosd_kit.faults.returned import Call, Check, check_of
from rosd_kit.faults.surroundings import Surroundings

T = TypeVar("T")
_inside = threading.local()
_busy: set[int] = set()


@dataclass
class Boundary:
    """Guards the components of a run. `first_step` asks for checks that cost time; `changes` are still to be reported."""

    first_step: bool = True
    changes: list[str] = field(default_factory=list)
    _known: set[str] = field(default_factory=set)
    _pending: list[tuple[str, Tensor]] = field(default_factory=list)

    def guard(self, component: Component, origin: str, *, is_plugin: bool) -> None:
        """Guard every method of the component's slot; one that was guarded before gets a new guard."""
        for name in _methods(component.kind):
            vars(component).pop(name, None)
            method = getattr(component, name)
            guarded = _Guard(self, component, f"{component.kind} {component.name!r} of plugin {origin}", name, is_plugin)
            setattr(component, name, functools.wraps(method)(functools.partial(guarded, method)))

    def take(self) -> tuple[str, ...]:
        """Return what components changed since the last call."""
        changes, self.changes = tuple(self.changes), []
        return changes

    def settle(self) -> None:
        """Raise `ComponentError` for the first condition that `expect` noted and that does not hold."""
        pending, self._pending = self._pending, []
        for message, holds in pending:
            if not bool(holds):
                raise ComponentError(message)

    def expect(self, message: str, holds: Tensor) -> None:
        """Note a condition on a tensor; looking at it at once would wait for the device."""
        if holds.device.type == "cpu" and not bool(holds):
            raise ComponentError(message)
        if holds.device.type != "cpu":
            self._pending.append((message, holds))

    def tell(self, who: str, method: str, changed: list[str]) -> None:
        """Keep what a call changed, the first time that this component changes it."""
        for one in changed:
            key = f"{who} {one.partition(' (')[0]}"
            if key not in self._known:
                self._known.add(key)
                advice = ". Draw from a generator with a seed of its own" if "random state" in one else ""
                self.changes.append(f"{who} changed {one} in {method}; it was put back{advice}")


@dataclass(frozen=True)
class _Guard:
    """The guard of one method."""

    boundary: Boundary
    component: Component
    who: str
    name: str
    is_plugin: bool

    def __call__(self, method: Callable[..., object], *args: object, **options: object) -> object:
        if getattr(_inside, "component", None) is self.component:
            return method(*args, **options)
        check = check_of(self.component.kind, self.name)
        call = Call(args, options)
        before = check.before(self, call) if check else None
        result = self.run(lambda: method(*args, **options))
        if check:
            check.after(self, call, before, result)
        if isinstance(result, Iterator):
            return _iterate(self, result)
        if isinstance(result, AbstractContextManager):
            return _Context(self, result, check)
        return result

    def run(self, call: Callable[[], T]) -> T:
        """Return what a part of the component's work returns; an end of the process becomes an error."""
        outer, thread = getattr(_inside, "component", None), threading.get_ident()
        _inside.component = self.component
        nested = thread in _busy
        _busy.add(thread)
        before = Surroundings.now(alone=len(_busy) == 1) if self.is_plugin else None
        try:
            return call()
        except BaseException as error:
            fault = own_fault(error, f"{self.who}, in {self.name},")
            if fault is error:
                raise
            raise fault from error
        finally:
            _inside.component = outer
            if not nested:
                _busy.discard(thread)
            if before is not None:
                self.boundary.tell(self.who, self.name, before.put_back())

    def refuse(self, what: str, *value: object) -> ComponentError:
        """Return the error that this method returned, or did, something that its slot does not allow."""
        return ComponentError(" ".join([f"{self.who}: {self.name} {what}", *map(shortened, value)]))


def _iterate(guard: _Guard, iterator: Iterator[object]) -> Iterator[object]:
    """Yield what a component yields; each step of it is a call."""
    ended = object()
    try:
        while (value := guard.run(lambda: next(iterator, ended))) is not ended:
            yield value
    finally:
        if close := getattr(iterator, "close", None):
            close()


class _Context(AbstractContextManager[object]):
    """A component's context manager; entering and leaving are calls."""

    def __init__(self, guard: _Guard, context: AbstractContextManager[object], check: Check | None) -> None:
        self._guard, self._context, self._check = guard, context, check

    def __enter__(self) -> object:
        value = self._guard.run(self._context.__enter__)
        if self._check:
            self._check.entered(self._guard, value)
        return value

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        if error is not None:  # what passes through is not this component's fault
            return self._context.__exit__(kind, error, trace)
        return self._guard.run(lambda: self._context.__exit__(None, None, None))


@functools.cache
def _methods(kind: str) -> tuple[str, ...]:
    """Return the names of the methods that a slot's base class defines for the kit to call."""
    return tuple(
        name
        for base in SLOTS[kind].__mro__
        if issubclass(base, Component) and base is not Component
        for name, value in vars(base).items()
        if not name.startswith("_") and callable(value) and not isinstance(value, (type, classmethod, staticmethod))
    )
