"""Tells what a component raised from what the user wants, and makes an ordinary error of it."""

from __future__ import annotations

import signal
import threading

from rosd_kit.errors import ComponentError, UserInterrupt, say


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
