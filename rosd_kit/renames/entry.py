"""One renamed thing, and tables of them. Knows nothing of what the old names are used for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

PREFIX = "rosd_kit."


@dataclass(frozen=True, kw_only=True)
class Renamed:
    """Something with another name since API version `since`; the old name works until version `until`, not in it.

    `values` maps old values of a field or option to new ones where those differ too.
    """

    old: str
    new: str
    since: int
    until: int
    values: Mapping[object, object] = field(default_factory=dict)

    @property
    def new_name(self) -> str:
        """The last part of the new name."""
        return self.new.rpartition(".")[2]

    def current(self, value: object) -> object:
        """Return what an old value is written as today."""
        return next((new for old, new in self.values.items() if old == value), value)

    def former(self, value: object) -> object:
        """Return what a value was written as before."""
        return next((old for old, new in self.values.items() if new == value), value)

    def __str__(self) -> str:
        values = "".join(f", and {new} for {old}" for old, new in self.values.items())
        return (
            f"{self.old} is called {self.new} since plugin API {self.since}; write {self.new}{values}. "
            f"The old name works until API {self.until}."
        )


def table(since: int, until: int, names: Mapping[str, str], prefix: str = PREFIX) -> dict[str, Renamed]:
    """Return the entries of a table of old and new names, by old name; `prefix` comes before both."""
    return {
        f"{prefix}{old}": Renamed(old=f"{prefix}{old}", new=f"{prefix}{new}", since=since, until=until)
        for old, new in names.items()
    }
