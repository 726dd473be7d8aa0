"""The teacher prompt of SDPO with rich feedback: a correct solution or, where the group has none, the verifier's feedback."""

from __future__ import annotations

from pydantic import field_validator

from rosd_kit.components.contexts.feedback import FEEDBACK
from rosd_kit.components.contexts.solution import SOLUTION
from rosd_kit.components.contexts.teacher_prompt import PrivilegedContext
from rosd_kit.text.templates import check_template
from rosd_kit.types import Case, Prompt


class SolutionOrFeedback(PrivilegedContext):
    """Shows the teacher a correct solution; without one, the verifier's feedback on the attempt.

    Source: SDPO (arXiv 2601.20802), section on rich feedback.
    """

    name = "solution_or_feedback"
    needs = frozenset({"demonstration", "feedback"})
    provides = frozenset({"teacher_prompt"})

    class Config(PrivilegedContext.Config):
        """Options of `solution_or_feedback`."""

        template: str = SOLUTION
        """Prompt template with a solution; fields: {problem} {solution}."""
        feedback_template: str = FEEDBACK
        """Prompt template without one; fields: {problem} {feedback} {attempt}."""

        @field_validator("template")
        @classmethod
        def _solution(cls, template: str) -> str:
            return check_template(template, known := ("problem", "solution"), required=known)

        @field_validator("feedback_template")
        @classmethod
        def _feedback(cls, template: str) -> str:
            return check_template(template, ("problem", "feedback", "attempt"), required=("problem", "feedback"))

    def prompts(self, case: Case) -> tuple[Prompt, ...]:
        if case.views:
            return tuple(self.teacher_prompt(case.problem, self.config.template, {"solution": v.text}) for v in case.views)
        feedback = case.rollout.verdict.feedback
        if not feedback:
            return ()
        fields = {"feedback": feedback, "attempt": case.rollout.completion.text}
        return (self.teacher_prompt(case.problem, self.config.feedback_template, fields),)
