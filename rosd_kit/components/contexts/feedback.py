"""SDPO's second teacher prompt: the problem and the verifier's feedback on the attempt."""

from __future__ import annotations

from pydantic import field_validator

from rosd_kit.components.contexts.teacher_prompt import PrivilegedContext
from rosd_kit.text.templates import check_template
from rosd_kit.types import Case, Prompt

FEEDBACK = """{problem}

Feedback on an earlier attempt:
{feedback}

Correctly solve the original question."""


class Feedback(PrivilegedContext):
    """Shows the teacher the verifier's feedback and, if the template has `{attempt}`, the attempt itself."""

    name = "feedback"
    needs = frozenset({"feedback"})
    provides = frozenset({"teacher_prompt"})

    class Config(PrivilegedContext.Config):
        """Options of `feedback`."""

        template: str = FEEDBACK
        """Prompt template; fields: {problem} {feedback} {attempt}."""

        @field_validator("template")
        @classmethod
        def _fields(cls, template: str) -> str:
            return check_template(template, ("problem", "feedback", "attempt"), required=("problem", "feedback"))

    def prompts(self, case: Case) -> tuple[Prompt, ...]:
        feedback = case.rollout.verdict.feedback
        if not feedback:
            return ()
        fields = {"feedback": feedback, "attempt": case.rollout.completion.text}
        return (self.teacher_prompt(case.problem, self.config.template, fields),)
