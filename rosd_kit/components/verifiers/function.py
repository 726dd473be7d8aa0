"""A function as a verifier, for plugin files: `@rk.verifier` above it, its name in the recipe."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from typing import Any, ClassVar, get_type_hints

from pydantic import create_model

from rosd_kit.contracts import Verifier
from rosd_kit.types import Problem, Verdict

_log = logging.getLogger(__name__)


class Function(Verifier):
    """Base of what `verifier` makes."""

    function: ClassVar[Callable[..., Any]]

    def verify(self, problem: Problem, text: str) -> Verdict:
        try:
            return as_verdict(type(self).function(problem, text, **dict(self.config)))
        except Exception as error:  # the function is at fault, which says nothing of the response
            _log.warning("verifier %s failed on problem %s: %s: %s", self.name, problem.id, type(error).__name__, error)
            return Verdict(score=0.0, success=False, status="error")


def verifier(function: Callable[..., Any]) -> type[Verifier]:
    """Return a verifier of the function's name, to be returned by the hook `rosd_kit_components`.

    The function gets the problem and the response's text. It returns whether the response is right, or a score in [0, 1] of
    which 0.5 and more is right, or one of the two with a feedback, or a `Verdict`; None says that there is no answer. Its
    parameters behind `*` are the verifier's options. What it raises is an error of the verifier: neither right nor wrong.
    """
    hints = get_type_hints(function)
    options: dict[str, Any] = {
        name: (hints.get(name, Any), ... if parameter.default is parameter.empty else parameter.default)
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY
    }
    config = create_model("Config", __base__=Verifier.Config, **options)
    body = {
        "__doc__": function.__doc__ or "A function of a plugin.",
        "__module__": function.__module__,
        "__qualname__": function.__qualname__,
        "name": function.__name__,
        "provides": frozenset({"feedback"}),
        "Config": config,
        "function": staticmethod(function),
    }
    return type(function.__name__, (Function,), body)


def as_verdict(found: Any) -> Verdict:
    """Return what a function found as a verdict. Raises `ValueError` for anything that is none."""
    if isinstance(found, Verdict):
        return found
    found, feedback = found if isinstance(found, tuple) and len(found) == 2 else (found, "")
    if found is None:
        return Verdict(score=0.0, success=False, feedback=str(feedback or "No answer was found."), status="unparsable")
    if not isinstance(found, (bool, int, float)) or not 0 <= found <= 1:
        raise ValueError(f"it returned {found!r}, which is neither true, false, a number from 0 to 1, None, nor a Verdict")
    return Verdict(score=float(found), success=found >= 0.5, feedback=str(feedback))
