"""What observer hooks see of a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from rosd_kit import renames
from rosd_kit.contracts import Policy
from rosd_kit.settings import CoreSettings


@dataclass(frozen=True, kw_only=True)
class RunView:
    """A read-only view of a run at one moment.

    `recipe` holds the resolved recipe's core settings, `values` all of it as plain values, slots included. `path` is the run's
    folder, in which an observer may keep files. `step` counts finished optimizer steps and `ranks` the run's processes;
    observers are called on the main one only. `warnings` lists what the run has warned of so far.
    """

    recipe: CoreSettings
    values: Mapping[str, object]
    path: Path
    step: int
    policy: Policy
    ranks: int = 1
    warnings: tuple[str, ...] = ()
    #: What plugins written for API 1 may still ask for, by name.
    api_1: Mapping[str, object] = field(default_factory=dict, repr=False, compare=False)

    def __getattr__(self, name: str) -> object:
        """Serve the attributes of API 1 with a `DeprecationWarning` that says what to write."""
        old = self.__dict__.get("api_1", {})
        if name not in old:
            raise AttributeError(f"a run's view has no {name!r}; it has recipe, values, path, step, policy, ranks, warnings")
        renames.warn(renames.FIELDS.get(f"run.{name}", f"run.{name}: observers only read; it works until plugin API 4"))
        return old[name]
