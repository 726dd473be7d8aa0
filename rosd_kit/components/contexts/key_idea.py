"""ROSD's teacher prompt: the reflection's idea and no solution (arXiv 2605.28014)."""

from __future__ import annotations

from typing import Literal

from pydantic import field_validator

from rosd_kit.components.contexts.building import teacher_prompt
from rosd_kit.components.contexts.solution import SOLUTION
from rosd_kit.contracts import Context
from rosd_kit.text.templates import check_template
from rosd_kit.types import Case, Prompt

IDEA = """{problem}

{feedback}The following is the key idea to solve the question:
{idea}

Correctly solve the original question."""


class KeyIdea(Context):
    """Shows the teacher the corrective idea; without one, a sibling's solution or nothing."""

    name = "key_idea"
    needs = frozenset({"reflection"})
    provides = frozenset({"teacher_prompt"})

    class Config(Context.Config):
        """The prompt, and what stands in for a missing idea."""

        template: str = IDEA
        """With an idea: {problem} {idea} {feedback}."""
        feedback: bool = False
        """Tell what the verifier said of the attempt, too: it fills {feedback}, which is empty otherwise."""
        fallback: Literal["solution", "skip"] = "solution"
        """No idea: show the demonstration as SDPO does, or leave the rollout out."""
        fallback_template: str = SOLUTION
        """With a demonstration instead: {problem} {solution}."""

        @field_validator("template")
        @classmethod
        def _idea(cls, template: str) -> str:
            return check_template(template, ("problem", "idea", "feedback"))

        @field_validator("fallback_template")
        @classmethod
        def _solution(cls, template: str) -> str:
            return check_template(template, ("problem", "solution"))

    def prompts(self, case: Case) -> tuple[Prompt, ...]:
        idea = case.reflection.idea if case.reflection else None
        if idea:
            said = case.rollout.verdict.feedback if self.config.feedback else ""
            fields = {"idea": idea, "feedback": f"{said}\n\n" if said else ""}
            return (teacher_prompt(case.problem, self.config.template, fields),)
        if self.config.fallback == "solution" and case.views:
            solution = {"solution": case.views[0].text}
            return (teacher_prompt(case.problem, self.config.fallback_template, solution),)
        return ()
