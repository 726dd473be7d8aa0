"""Groups that several steps sample: a step may end before all of its rollouts do, and the next one continues them.

Knows neither engines nor weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from threading import Event, Thread

from pydantic import TypeAdapter

from rosd_kit.types import Completion, JsonObject, Problem

#: Seconds between looks at what other ranks have.
_LOOK = 0.05


@dataclass(frozen=True, kw_only=True)
class OpenGroup:
    """A problem whose rollouts are being sampled: place `index` among the training problems of `step`.

    `completions` has one entry per rollout: None for one that has not begun, one with finish reason `abort` for one that was
    stopped, else a whole one.
    """

    problem: Problem
    step: int
    index: int
    completions: tuple[Completion | None, ...]

    @property
    def unfinished(self) -> list[int]:
        """Which rollouts have to begin or to continue."""
        return [place for place, one in enumerate(self.completions) if one is None or one.finish_reason == "abort"]


def new_groups(problems: Sequence[Problem], step: int, size: int) -> list[OpenGroup]:
    """Return a group of `size` rollouts for each training problem of a step; none has begun."""
    return [OpenGroup(problem=one, step=step, index=i, completions=(None,) * size) for i, one in enumerate(problems)]


@dataclass(kw_only=True)
class StepEnd:
    """Ends a step when it has enough groups: `stop` is set, and what is then open is kept in `left`.

    `total` adds to the number of complete groups, which all ranks share, and returns it.
    """

    enough: int
    total: Callable[[int], int]
    stop: Event = field(default_factory=Event)
    left: list[OpenGroup] = field(default_factory=list)

    def has_room(self) -> bool:
        """Count a complete group; return whether it still belongs to the step."""
        number = self.total(1)
        if number >= self.enough:
            self.stop.set()
        return number <= self.enough

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Set `stop` also when other ranks complete the step's groups."""
        over = Event()
        watcher = Thread(target=self._watch, args=(over,), name="rosd-kit-step-end", daemon=True)
        watcher.start()
        try:
            yield
        finally:
            over.set()
            watcher.join()

    def _watch(self, over: Event) -> None:
        while not (self.stop.is_set() or over.wait(_LOOK)):
            if self.total(0) >= self.enough:
                self.stop.set()


class OpenGroups:
    """What is open between steps. `problems` returns the training problems of a step, in which each has an id of its own.

    `wanted` groups are open at a time. A problem that is still open when it comes round again waits until it is complete.
    """

    def __init__(self, problems: Callable[[int], Sequence[Problem]], *, wanted: int, size: int) -> None:
        self._problems = problems
        self._wanted = wanted
        self._size = size
        self._open: list[OpenGroup] = []
        self._waiting: list[OpenGroup] = []
        self._next_step = 0

    def take(self) -> list[OpenGroup]:
        """Return the groups of the next step: those that are open, and new ones until there are as many as wanted.

        Fewer, if the next step's training problems are all open already.
        """
        taken, self._open = self._open, []
        while len(taken) < self._wanted:
            known = {group.problem.id for group in taken}
            free = next((place for place, group in enumerate(self._waiting) if group.problem.id not in known), None)
            if free is not None:
                taken.append(self._waiting.pop(free))
                continue
            more = new_groups(self._problems(self._next_step), self._next_step, self._size)
            if {group.problem.id for group in more} <= known:
                break
            self._waiting += more
            self._next_step += 1
        return taken

    def put_back(self, groups: Sequence[OpenGroup]) -> None:
        """Keep the groups that a step left open."""
        self._open = list(groups)

    def state(self) -> JsonObject:
        """Return what is open and what waits as plain values, the problems by their places."""
        saved: dict[str, list[_Saved]] = {
            name: [_Saved(step=one.step, index=one.index, completions=one.completions) for one in groups]
            for name, groups in (("open", self._open), ("waiting", self._waiting))
        }
        return {
            "next_step": self._next_step,
            **{name: _groups().dump_python(value, mode="json") for name, value in saved.items()},
        }

    def load_state(self, state: JsonObject) -> None:
        """Restore what `state` returned."""
        problems = cache(self._problems)
        self._next_step = int(state["next_step"])
        self._open, self._waiting = (
            [
                OpenGroup(problem=problems(one.step)[one.index], step=one.step, index=one.index, completions=one.completions)
                for one in _groups().validate_python(state[name])
            ]
            for name in ("open", "waiting")
        )


@dataclass(frozen=True, kw_only=True)
class _Saved:
    """A group as a checkpoint keeps it."""

    step: int
    index: int
    completions: tuple[Completion | None, ...]


@cache
def _groups() -> TypeAdapter[list[_Saved]]:
    return TypeAdapter(list[_Saved])
