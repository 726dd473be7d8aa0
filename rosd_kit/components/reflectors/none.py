"""No reflection."""

from __future__ import annotations

from collections.abc import Sequence

from rosd_kit.contracts import Generate, Reflector
from rosd_kit.types import Case, Reflection


class NoReflector(Reflector):
    """Reflects on nothing and costs nothing."""

    name = "none"

    def reflect(self, cases: Sequence[Case], generate: Generate) -> list[Reflection]:
        return [Reflection(status="skipped")] * len(cases)
