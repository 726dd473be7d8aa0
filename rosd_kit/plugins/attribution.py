"""Whose code raised: an unexpected error gets a note that names the component and the plugin it came from."""

from __future__ import annotations

from rosd_kit.contracts import Component
from rosd_kit.plugins.registry import Registry


def add_culprit(error: BaseException, registry: Registry) -> None:
    """Add a note naming the innermost component whose method the error passed through; nothing when there is none."""
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
