"""Turns a function into a verifier, for plugin files: decorate it with `@rk.verifier` and name it in the recipe."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, ClassVar, get_type_hints, overload

from pydantic import create_model

from rosd_kit.contracts import Verifier
from rosd_kit.errors import PluginError
from rosd_kit.sandbox.failures import log_failure
from rosd_kit.types import Problem, Verdict


class Function(Verifier):
    """Base of the classes that `verifier` returns."""

    function: ClassVar[Callable[..., object]]
    options: ClassVar[tuple[str, ...]] = ()

    def verify(self, problem: Problem, text: str) -> Verdict:
        try:
            options = {name: getattr(self.config, name) for name in type(self).options}
            return as_verdict(type(self).function(problem, text, **options))
        except Exception as error:  # the function is at fault, not the response
            log_failure(self, self.name, problem.id, f"{type(error).__name__}: {error}")
            return Verdict(score=0.0, success=False, status="error")


@overload
def verifier(function: Callable[..., object], /) -> type[Verifier]: ...
@overload
def verifier(*, sandboxed: bool = False) -> Callable[[Callable[..., object]], type[Verifier]]: ...
def verifier(
    function: Callable[..., object] | None = None, /, *, sandboxed: bool = False
) -> type[Verifier] | Callable[[Callable[..., object]], type[Verifier]]:
    """Return a verifier class with the function's name, for the hook `rosd_kit_components` to return.

    The function takes the problem and the response's text. It returns whether the response is right, or a score in [0, 1]
    where 0.5 and above is right, or either of them in a tuple with feedback, or a `Verdict`, or None if there is no answer.
    Its keyword-only parameters are the verifier's options. An exception gives a verdict with status `error`: neither right
    nor wrong. Write `@rk.verifier(sandboxed=True)` if the function, or a library that it calls, evaluates the text.
    """
    return (lambda function: _verifier_class(function, sandboxed)) if function is None else _verifier_class(function, sandboxed)


def _check_parameters(function: Callable[..., object]) -> None:
    """Raise `PluginError` unless a function can be called with a problem and a text, and options by name."""
    keywords = [p.name for p in inspect.signature(function).parameters.values() if p.kind is p.KEYWORD_ONLY]
    try:
        inspect.signature(function).bind(None, "", **dict.fromkeys(keywords))
    except TypeError as error:
        raise PluginError(
            f"verifier {function.__name__!r}: it is called with the problem and the response's text ({error}). "
            f"Write def {function.__name__}(problem, text), with options behind a *."
        ) from None


def _verifier_class(function: Callable[..., object], sandboxed: bool) -> type[Verifier]:
    _check_parameters(function)
    hints = get_type_hints(function, include_extras=True)
    options: dict[str, Any] = {  # a type and a default, as pydantic's `create_model` takes them
        name: (hints.get(name, Any), ... if parameter.default is parameter.empty else parameter.default)
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY
    }
    taken = Verifier.SandboxConfig if sandboxed else Verifier.Config
    if reserved := sorted(options.keys() & taken.model_fields):
        raise PluginError(
            f"verifier {function.__name__!r}: every verifier has an option {reserved[0]!r}. Rename the function's parameter."
        )
    config = create_model("Config", __base__=Verifier.Config, **options)
    body = {
        "__doc__": function.__doc__ or "A verifier function of a plugin.",
        "__module__": function.__module__,
        "__qualname__": function.__qualname__,
        "name": function.__name__,
        "sandboxed": sandboxed,
        "provides": frozenset({"feedback"}),
        "Config": config,
        "function": staticmethod(function),
        "options": tuple(options),
    }
    return type(function.__name__, (Function,), body)


def as_verdict(result: object) -> Verdict:
    """Turn a verifier function's result into a verdict. Raises `ValueError` if it cannot be one."""
    if isinstance(result, Verdict):
        return result
    result, feedback = result if isinstance(result, tuple) and len(result) == 2 else (result, "")
    if result is None:
        return Verdict(score=0.0, success=False, feedback=str(feedback or "No answer was found."), status="unparsable")
    if not isinstance(result, (bool, int, float)) or not 0 <= result <= 1:
        raise ValueError(f"it returned {result!r}; allowed are true, false, a number from 0 to 1, None, or a Verdict")
    return Verdict(score=float(result), success=result >= 0.5, feedback=str(feedback))
