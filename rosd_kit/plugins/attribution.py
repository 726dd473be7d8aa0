"""Names the component and plugin whose code raised an unexpected error, as a note on the error."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rosd_kit.contracts import Component
from rosd_kit.errors import RunError, is_users_interrupt, say
from rosd_kit.plugins.manager import PluginManager
from rosd_kit.plugins.registry import Registry


@contextmanager
def culprit_named(plugins: PluginManager) -> Iterator[None]:
    """Add a note to an error that is raised inside; see `add_culprit`.

    Raises `RunError` for what would end the process as if all were well, like `sys.exit()` in code that no component guards.
    """
    try:
        yield
    except Exception as error:
        add_culprit(error, plugins.registry)
        raise
    except BaseException as error:
        if is_users_interrupt(error):
            raise
        raise RunError(f"the run was ended by {say(error)}. Find what raised it with python -X dev, and remove it.") from error


def add_culprit(error: BaseException, registry: Registry) -> None:
    """Add a note that names the innermost component whose method the error passed through, if there is one."""
    culprit: Component | None = None
    trace = error.__traceback__
    while trace is not None:
        owner = trace.tb_frame.f_locals.get("self")
        culprit = owner if isinstance(owner, Component) else culprit
        trace = trace.tb_next
    if culprit is not None:
        entry = registry.entries[culprit.kind].get(culprit.name)
        origin = f", of plugin {entry.origin}" if entry else ""
        error.add_note(f"raised in {culprit.kind} {culprit.name!r}{origin}")
