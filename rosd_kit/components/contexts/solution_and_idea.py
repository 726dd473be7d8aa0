"""A teacher prompt with both a correct solution and the reflection's idea."""

from __future__ import annotations

from pydantic import field_validator

from rosd_kit.components.contexts.teacher_prompt import PrivilegedContext
from rosd_kit.text.templates import check_template
from rosd_kit.types import Case, Prompt

BOTH = """{problem}

Correct solution:
{solution}

The following is the key idea to solve the question:
{idea}

Correctly solve the original question."""


class SolutionAndIdea(PrivilegedContext):
    """Shows the teacher a solution and the reflection's idea; leaves out rollouts that lack either."""

    name = "solution_and_idea"
    needs = frozenset({"demonstration", "reflection"})
    provides = frozenset({"teacher_prompt"})

    class Config(PrivilegedContext.Config):
        """Options of `solution_and_idea`."""

        template: str = BOTH
        """Prompt template; fields: {problem} {solution} {idea}."""

        @field_validator("template")
        @classmethod
        def _fields(cls, template: str) -> str:
            return check_template(template, known := ("problem", "solution", "idea"), required=known)

    def prompts(self, case: Case) -> tuple[Prompt, ...]:
        idea = case.reflection.idea if case.reflection else None
        if not idea:
            return ()
        template = self.config.template
        return tuple(self.teacher_prompt(case.problem, template, {"solution": v.text, "idea": idea}) for v in case.views)
