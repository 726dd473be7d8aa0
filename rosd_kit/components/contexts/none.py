"""The context for recipes without a teacher."""

from __future__ import annotations

from rosd_kit.contracts import Context
from rosd_kit.types import Case, Prompt


class NoContext(Context):
    """Writes no teacher prompt; for recipes without distillation."""

    name = "none"

    def prompts(self, case: Case) -> tuple[Prompt, ...]:
        return ()
