"""Runs methods of a component in worker processes, each call confined and with a deadline.

A worker builds the component from its class and options, so both must be found from there. It knows no slot.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from operator import attrgetter
from pathlib import Path
from types import ModuleType
from typing import Protocol

from rosd_kit.errors import RunError
from rosd_kit.sandbox.pool import Outcome, WorkerPool
from rosd_kit.types import Problem

#: Pools that stay warm for components that are built again with the same options.
_POOLS = 4
_inside = False
#: A method's name and its arguments.
Job = tuple[str, tuple[Problem, object]]


class Limits(Protocol):
    """Options of a component that runs in the sandbox."""

    workers: int
    deadline: float
    memory_mib: int

    def model_dump_json(self) -> str:
        """Return all options as JSON."""


class Confined(Protocol):
    """What the sandbox uses of a component."""

    @property
    def kind(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def config(self) -> Limits: ...
    def prepare(self, problem: Problem) -> None:
        """Load what the calls for this problem share."""


@dataclass(frozen=True)
class Place:
    """Where a worker finds a class, and the options to build it with, as JSON."""

    module: str
    file: str
    name: str
    options: str


def is_inside() -> bool:
    """Return whether this process is a worker (or runs methods as one does): calls are made here and now."""
    return _inside


@contextmanager
def inside() -> Iterator[None]:
    """Make calls in this process, without a sandbox, for text that is known to be harmless."""
    global _inside
    before, _inside = _inside, True
    try:
        yield
    finally:
        _inside = before


def call_each(component: Confined, method: str, arguments: Sequence[tuple[Problem, object]]) -> list[Outcome]:
    """Call a method of a component once for each pair of arguments, in the sandbox; return the outcomes in order.

    Raises `RunError` if this machine cannot confine a process, or if a worker cannot find or build the component.
    """
    options = component.config
    pool = _pool(_place(component), options.workers, options.deadline, options.memory_mib)
    outcomes = pool.map([(method, each) for each in arguments])
    for outcome in outcomes:
        if outcome.status == "crash" and outcome.detail.startswith("the worker could not import"):
            raise RunError(f"{component.kind} {component.name!r} cannot be run in the sandbox: {outcome.detail}")
    return outcomes


class Calls:
    """Calls methods of a component: `prepare` before the fork, the method in it."""

    def __init__(self, component: Confined) -> None:
        self._component = component

    def prepare(self, job: Job) -> None:
        """Prepare for the first argument, the only one that holds no model's text."""
        self._component.prepare(job[1][0])

    def __call__(self, job: Job) -> object:
        method, arguments = job
        return getattr(self._component, method)(*arguments)


def load(place: Place) -> tuple[Calls, list[str]]:
    """Return a function that calls a method of the component at this place, and the folders of its package."""
    global _inside
    _inside = True
    module = _import(place)
    cls = attrgetter(place.name)(module)
    component = cls(cls.Config.model_validate_json(place.options))
    component.reads_thinking = True  # texts come without it
    package = sys.modules.get(module.__name__.partition(".")[0], module)
    return Calls(component), [*getattr(package, "__path__", ())]


@lru_cache(maxsize=_POOLS)
def _pool(place: Place, workers: int, deadline: float, memory_mib: int) -> WorkerPool:
    limits = {"workers": workers, "deadline": deadline, "memory_mib": memory_mib}
    return WorkerPool(f"{__name__}:load", confinement="required", setup=place, **limits)  # type: ignore[arg-type]


def _place(component: Confined) -> Place:
    cls = type(component)
    module = sys.modules.get(cls.__module__)
    try:
        file = str(Path(inspect.getfile(cls)).resolve())
    except (TypeError, OSError):
        file = ""
    if module is None or not file or not Path(file).is_file() or "<locals>" in cls.__qualname__:
        raise RunError(
            f"{cls.kind} {cls.name!r} is judged in a sandbox, whose processes import its class, but {cls.__qualname__} is not "
            "at the top level of a Python file. Move it to a file."
        )
    name = module.__spec__.name if cls.__module__ == "__main__" and module.__spec__ else cls.__module__
    return Place(name, file, cls.__qualname__, component.config.model_dump_json())


def _import(place: Place) -> ModuleType:
    """Import the module of a class by name, or from its file if the name leads elsewhere."""
    try:
        spec = None if place.module == "__main__" else find_spec(place.module)
    except (ImportError, ValueError):
        spec = None
    if spec is not None and spec.origin and Path(spec.origin).resolve() == Path(place.file):
        return import_module(place.module)
    name = "__worker_main__" if place.module == "__main__" else place.module
    spec = spec_from_file_location(name, place.file)
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module
