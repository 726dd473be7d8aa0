"""A verifier for each suite, where the sets that are measured need other ones than the set that is trained on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

from pydantic import Field

from rosd_kit.contracts import Component, Verifier
from rosd_kit.types import Problem, Verdict

Choice = str | dict[str, Any]


class BySuite(Verifier):
    """Hands each problem to the verifier that is named for its suite; training problems are of the suite `train`."""

    name = "by_suite"
    provides = frozenset({"feedback"})

    class Config(Verifier.Config):
        """Which verifier judges what, each written as in the slot itself: a name, or a name with options."""

        default: Choice
        """For every suite that is not named below."""
        suites: dict[str, Choice] = Field(default_factory=dict)
        """For single suites: `{tool_use: tool_use, gpqa: {name: mcq, letters: ABCD}}`."""

    def __init__(self, config: Any, parts: Mapping[str, Verifier], default: Verifier) -> None:
        super().__init__(config)
        self._parts, self._default = parts, default

    @classmethod
    def build(cls, options: Any, part: Callable[[Any], Component]) -> Self:
        made: dict[str, Any] = {suite: part(choice) for suite, choice in options.suites.items()}
        default: Any = part(options.default)
        return cls(options, made, default)

    def verify(self, problem: Problem, text: str) -> Verdict:
        return self._of(problem).verify(problem, text)

    def verify_group(self, problem: Problem, texts: Sequence[str]) -> list[Verdict]:
        return self._of(problem).verify_group(problem, texts)

    def _of(self, problem: Problem) -> Verifier:
        return self._parts.get(problem.suite, self._default)
