"""Chooses a verifier by suite, for evaluation sets that need another verifier than the training set."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

from pydantic import Field

from rosd_kit.contracts import Component, Verifier
from rosd_kit.types import Completion, JsonObject, Problem, Verdict

Choice = str | JsonObject


class BySuite(Verifier):
    """Passes each problem to the verifier of its suite; training problems have the suite `train`."""

    name = "by_suite"
    reads_thinking = True  # each verifier decides for itself
    provides = frozenset({"feedback"})

    class Config(Verifier.Config):
        """Verifiers, each written as in the slot itself: a name, or a name with options."""

        default: Choice
        """Verifier of every suite not listed in `suites`."""
        suites: dict[str, Choice] = Field(default_factory=dict)
        """Verifiers by suite: `{tool_use: tool_use, gpqa: {name: mcq, letters: ABCD}}`. They take over `truncated` unless they
        set it."""

    def __init__(self, config: object, verifiers: Mapping[str, Verifier], default: Verifier) -> None:
        super().__init__(config)
        self._verifiers, self._default = verifiers, default

    @classmethod
    def build(cls, options: Any, part: Callable[[object], Component]) -> Self:
        def built(choice: Choice) -> Verifier:
            values = {"name": choice} if isinstance(choice, str) else choice
            verifier = part({"truncated": options.truncated, **values})
            assert isinstance(verifier, Verifier)
            return verifier

        verifiers = {suite: built(choice) for suite, choice in options.suites.items()}
        return cls(options, verifiers, built(options.default))

    def verify(self, problem: Problem, text: str) -> Verdict:
        return self._verifier_of(problem).verify(problem, text)

    def verify_group(self, problem: Problem, texts: Sequence[str]) -> list[Verdict]:
        return self._verifier_of(problem).verify_group(problem, texts)

    def judge(self, problem: Problem, completion: Completion) -> Verdict:
        return self._verifier_of(problem).judge(problem, completion)

    def judge_group(self, problem: Problem, completions: Sequence[Completion]) -> list[Verdict]:
        return self._verifier_of(problem).judge_group(problem, completions)

    def check_gold(self, problem: Problem) -> str | None:
        return self._verifier_of(problem).check_gold(problem)

    def _verifier_of(self, problem: Problem) -> Verifier:
        return self._verifiers.get(problem.suite, self._default)
