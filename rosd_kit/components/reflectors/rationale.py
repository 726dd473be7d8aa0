"""OPSD's `reason_first`: before it teaches, the model explains the demonstration in its own words.

Source: the authors' code of OPSD (arXiv 2601.18734), whose teacher continues its own explanation. Here the explanation is the
idea that the context `solution_and_idea` shows beside the solution, in the teacher's prompt.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, NonNegativeFloat, field_validator

from rosd_kit.components.reflectors.self_reflector import CUT_PRIORITY, SelfReflector, fields_of
from rosd_kit.options import Fixed
from rosd_kit.settings import TopK
from rosd_kit.text.templates import check_template, fill
from rosd_kit.text.thinking import strip_thinking
from rosd_kit.types import Case, Completion, Prompt, Reflection, ReflectionStatus, Sampling

EXPLAIN = """{problem}

[Reference Solution]
{demonstration}
[End of the Reference Solution]

The reference solution is right. Explain its plan and why each of its main steps holds. Work only with what it says: do not
solve the problem in another way, and do not think aloud before you explain."""


class Rationale(SelfReflector):
    """Has the model explain the demonstration before the teacher reads both (OPSD's `reason_first`).

    Its whole answer is the idea, without tags, quote and thinking. It does not look at the rollout, so use it with a localizer
    that needs no quote, and with the context `solution_and_idea`.
    """

    name = "rationale"
    needs = frozenset({"demonstration"})
    provides = frozenset({"reflection"})

    class Config(SelfReflector.Config):
        """Options of `rationale`; the defaults are those of the authors' scripts."""

        temperature: NonNegativeFloat = 1.1
        """Sampling temperature; 0 is greedy."""
        top_p: float = Field(default=0.95, gt=0.0, le=1.0)
        """Nucleus sampling mass; has no effect at temperature 0."""
        top_k: Annotated[TopK, Fixed("it is no schedule in the source")] = 20
        """Sample only from so many of the likeliest tokens; 0 for all."""
        template: str = EXPLAIN
        """Prompt template; fields: {problem} (all messages) or {question} (the last one), {demonstration} {answer}."""

        @field_validator("template")
        @classmethod
        def _fields(cls, template: str) -> str:
            known = ("problem", "question", "demonstration", "answer")
            return check_template(template, known, required=("problem|question", "demonstration"))

    def asks(self, case: Case) -> bool:
        return bool(case.views)

    def prompt(self, case: Case) -> Prompt:
        fields = fields_of(case)
        del fields["response"]
        return Prompt(head=(), sections=fill(self.config.template, fields, CUT_PRIORITY, {"demonstration": self.config.cut}))

    def sampling(self) -> Sampling:
        return Sampling(
            temperature=self.config.temperature,
            top_p=self.config.top_p,
            top_k=self.config.top_k,
            max_new_tokens=self.config.max_new_tokens,
        )

    def read(self, answer: Completion, case: Case) -> Reflection:
        """Return the answer without its thinking as the idea. One that was cut off has status `truncated`, and is used too."""
        if answer.finish_reason in ("overlong", "abort"):
            return Reflection(status=answer.finish_reason)
        idea = strip_thinking(self.text_of(answer), self.thinking).strip() or None
        status: ReflectionStatus = "truncated" if answer.finish_reason == "length" else "ok" if idea else "unparsable"
        return Reflection(idea=idea, status=status, raw=answer.text)
