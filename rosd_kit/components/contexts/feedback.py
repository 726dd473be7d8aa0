"""SDPO's other teacher prompt: what the environment said of the attempt."""

from __future__ import annotations

from pydantic import field_validator

from rosd_kit.components.contexts.building import teacher_prompt
from rosd_kit.contracts import Context
from rosd_kit.text.templates import check_template
from rosd_kit.types import Case, Prompt

FEEDBACK = """{problem}

Feedback on an earlier attempt:
{feedback}

Correctly solve the original question."""


class Feedback(Context):
    """Shows the teacher the verifier's feedback and, where the template asks for it, the attempt."""

    name = "feedback"
    needs = frozenset({"feedback"})
    provides = frozenset({"teacher_prompt"})

    class Config(Context.Config):
        """The prompt."""

        template: str = FEEDBACK
        """{problem} {feedback} {attempt}."""

        @field_validator("template")
        @classmethod
        def _fields(cls, template: str) -> str:
            return check_template(template, ("problem", "feedback", "attempt"))

    def prompts(self, case: Case) -> tuple[Prompt, ...]:
        said = case.rollout.verdict.feedback
        fields = {"feedback": said, "attempt": case.rollout.completion.text}
        return (teacher_prompt(case.problem, self.config.template, fields),) if said else ()
