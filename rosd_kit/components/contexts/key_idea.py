"""ROSD's teacher prompt: the problem and the reflection's idea, without a solution (arXiv 2605.28014)."""

from __future__ import annotations

from typing import Literal

from pydantic import field_validator

from rosd_kit.components.contexts.solution import SOLUTION
from rosd_kit.components.contexts.teacher_prompt import PrivilegedContext
from rosd_kit.text.templates import check_template, fill
from rosd_kit.types import Case, Prompt

IDEA = """{problem}

{feedback}The following is the key idea to solve the question:
{idea}

Correctly solve the original question."""


class KeyIdea(PrivilegedContext):
    """Shows the teacher the reflection's idea; without an idea, the demonstration or nothing."""

    name = "key_idea"
    needs = frozenset({"reflection"})
    provides = frozenset({"teacher_prompt"})

    class Config(PrivilegedContext.Config):
        """Options of `key_idea`."""

        template: str = IDEA
        """Prompt template; fields: {problem} {idea} {feedback}."""
        feedback: bool = False
        """Also show the verifier's feedback on the attempt: {feedback} of `template` is empty otherwise."""
        feedback_template: str = "{feedback}\n\n"
        """What stands for {feedback} in `template` if there is feedback; field: {feedback}."""
        fallback: Literal["solution", "skip"] = "solution"
        """Without an idea: `solution` shows the demonstration, as SDPO does; `skip` leaves the rollout out."""
        fallback_template: str = SOLUTION
        """Prompt template for the fallback `solution`; fields: {problem} {solution}."""

        @field_validator("template")
        @classmethod
        def _idea(cls, template: str) -> str:
            return check_template(template, ("problem", "idea", "feedback"), required=("problem", "idea"))

        @field_validator("feedback_template")
        @classmethod
        def _feedback(cls, template: str) -> str:
            return check_template(template, known := ("feedback",), required=known)

        @field_validator("fallback_template")
        @classmethod
        def _solution(cls, template: str) -> str:
            return check_template(template, known := ("problem", "solution"), required=known)

    def prompts(self, case: Case) -> tuple[Prompt, ...]:
        idea = case.reflection.idea if case.reflection else None
        if idea:
            feedback = case.rollout.verdict.feedback if self.config.feedback else ""
            if feedback:
                feedback = "".join(part.text for part in fill(self.config.feedback_template, {"feedback": feedback}, {}))
            fields = {"idea": idea, "feedback": feedback}
            return (self.teacher_prompt(case.problem, self.config.template, fields),)
        if self.config.fallback == "solution" and case.views:
            solution = {"solution": case.views[0].text}
            return (self.teacher_prompt(case.problem, self.config.fallback_template, solution),)
        return ()
