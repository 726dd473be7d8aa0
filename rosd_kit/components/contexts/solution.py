"""The teacher prompt of SDPO and OPSD: the problem and a correct solution."""

from __future__ import annotations

from pydantic import field_validator

from rosd_kit.components.contexts.teacher_prompt import PrivilegedContext
from rosd_kit.text.templates import check_template
from rosd_kit.types import Case, Prompt

SOLUTION = """{problem}

Correct solution:
{solution}

Correctly solve the original question."""


class Solution(PrivilegedContext):
    """Shows the teacher a correct solution: one prompt per demonstration, none if there is no demonstration."""

    name = "solution"
    needs = frozenset({"demonstration"})
    provides = frozenset({"teacher_prompt"})

    class Config(PrivilegedContext.Config):
        """Options of `solution`."""

        template: str = SOLUTION
        """Prompt template; fields: {problem} {solution}."""

        @field_validator("template")
        @classmethod
        def _fields(cls, template: str) -> str:
            return check_template(template, known := ("problem", "solution"), required=known)

    def prompts(self, case: Case) -> tuple[Prompt, ...]:
        return tuple(self.teacher_prompt(case.problem, self.config.template, {"solution": v.text}) for v in case.views)
