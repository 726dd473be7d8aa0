"""Exceptions for users' mistakes and components' faults, and helpers that put errors into words.

Each message names the field, the value, what is allowed and the remedy.
"""

from __future__ import annotations

import difflib
import signal
import threading
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
    """A component raised something else than an `Exception`, for example `SystemExit`, or broke its slot's contract."""


class UserInterrupt(KeyboardInterrupt):
    """An interrupt by the user, as distinct from a `KeyboardInterrupt` that a component raises."""


class EngineError(RosdError):
    """The rollout backend failed, and retries did not help."""


def say(error: BaseException, limit: int = 300) -> str:
    """Return an exception in one line, with its type; also one whose text cannot be had."""
    try:
        text = " ".join(str(error).split())[:limit]
    except BaseException as failed:
        text = f"(no text: its __str__ raised {type(failed).__name__})"
    return f"{type(error).__name__}: {text}"


def own_fault(error: BaseException, who: str) -> Exception:
    """Return the error of a component as an ordinary one: itself, or a `ComponentError` for `SystemExit` and its like.

    Raises the error again if it is the user's interrupt, even where a component made something else of that.
    """
    if is_users_interrupt(error):
        raise error
    if isinstance(error, Exception) and not isinstance(error, StopIteration):
        return error
    fault = ComponentError(
        f"{who} raised {say(error)}. A component may not end the run; it returns a value or raises an Exception."
    )
    fault.__cause__ = error
    return fault


def is_users_interrupt(error: BaseException) -> bool:
    """Return whether an error is or came from the user's interrupt.

    A run's own handler raises `UserInterrupt`. Where Python's handler is in force, the main thread cannot know better.
    """
    link: BaseException | None = error
    seen: set[int] = set()
    while link is not None and id(link) not in seen:
        if isinstance(link, UserInterrupt):
            return True
        seen.add(id(link))
        link = link.__cause__ or link.__context__
    in_main = threading.current_thread() is threading.main_thread()
    return isinstance(error, KeyboardInterrupt) and in_main and signal.getsignal(signal.SIGINT) is signal.default_int_handler


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return `" Did you mean 'x'?"` for the closest known word, or an empty string if none is close."""
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f" Did you mean {near[0]!r}?" if near else ""


def shortened(value: object, limit: int = 80) -> str:
    """Return the `repr` of a value for an error message, cut after `limit` characters."""
    text = repr(value)
    return text if len(text) <= limit else f"{text[:limit]} ..."
