"""Exceptions for users' mistakes: each message names the field, the value, what is allowed and the remedy."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class RosdError(Exception):
    """Base of all errors that a user can fix; the command line prints them without a traceback."""


class RecipeError(RosdError):
    """A recipe, profile or override has a mistake."""


class PluginError(RosdError):
    """A plugin that the recipe needs cannot be used."""


class RunError(RosdError):
    """A run cannot start, continue or resume."""


class ComponentError(RunError):
    """A component raised what is no ordinary error, for example `SystemExit`, or returned what its slot does not allow."""


class UserInterrupt(KeyboardInterrupt):
    """An interrupt by the user, told apart from a `KeyboardInterrupt` that a component raises."""


class EngineError(RosdError):
    """The rollout backend failed, and retries did not help."""


def say(error: BaseException, limit: int = 300) -> str:
    """Return an exception in one line, with its type; also one whose text cannot be had."""
    try:
        text = " ".join(str(error).split())[:limit]
    except BaseException as failed:
        text = f"(no text: its __str__ raised {type(failed).__name__})"
    return f"{type(error).__name__}: {text}"


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return `" Did you mean 'x'?"` for the closest known word, or an empty string if none is close."""
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f" Did you mean {near[0]!r}?" if near else ""


def shortened(value: object, limit: int = 80) -> str:
    """Return the `repr` of a value for an error message, cut after `limit` characters."""
    text = repr(value)
    return text if len(text) <= limit else f"{text[:limit]} ..."
