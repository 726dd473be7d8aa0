"""Says where the values of a trial's recipe come from: an axis, a rule, the seeds, the sweep's file, or a layer of its recipe.

Knows no trials and no store. What is stored is only ever shown.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass, replace

from rosd_kit.recipe.resolve import COMMAND_LINE, Resolution

AXIS, RULE, SEEDS, FILE = "axis of the sweep", "rule of the sweep", "seeds of the sweep", "sweep file"


@dataclass(frozen=True, kw_only=True)
class Words:
    """The fields that a sweep overrides in a combination, by who wrote them; rules come last and win."""

    axes: Collection[str]
    rules: Collection[str]
    file: Collection[str]

    def origin(self, path: str) -> str:
        """Return who set the value at a path that some word of the sweep set."""
        for origin, fields in ((RULE, self.rules), (AXIS, self.axes), (FILE, self.file)):
            if any(path == field or path.startswith(f"{field}.") for field in fields):
                return origin
        return COMMAND_LINE


def in_words_of_sweep(resolution: Resolution, words: Words) -> Resolution:
    """Return the resolution of a combination with the sweep's own words for what the resolver calls the command line."""
    named = {path: words.origin(path) if source == COMMAND_LINE else source for path, source in resolution.provenance.items()}
    return replace(resolution, provenance=named)


def stored_origins(resolution: Resolution, *, with_seed: bool) -> str:
    """Return the origins of a trial as the store keeps them. `with_seed` says that the sweep set the seed."""
    origins = {**resolution.provenance, **({"seed": SEEDS} if with_seed else {})}
    return json.dumps({"preset": resolution.preset, "profile": resolution.profile, "origins": origins})


def with_stored_origins(resolution: Resolution, stored: str | None) -> Resolution | None:
    """Return the resolution of a trial's own recipe with the origins that were stored for it, or None if there are none."""
    try:
        record = json.loads(stored or "null")
        preset, origins = record["preset"], {str(path): str(source) for path, source in record["origins"].items()}
        return replace(
            resolution, preset=None if preset is None else str(preset), profile=str(record["profile"]), provenance=origins
        )
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
