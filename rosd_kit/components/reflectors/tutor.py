"""ROSD's self-reflector: the model compares a wrong rollout with a demonstration and quotes its first error.

Source: arXiv 2605.28014. A reflection has two tags, `<error_quote>` and `<explanation>`; on right rollouts only the latter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Self

from pydantic import PositiveInt, field_validator, model_validator

from rosd_kit.components.reflectors.self_reflector import CUT_PRIORITY, SelfReflector, fields_of
from rosd_kit.contracts import Generate
from rosd_kit.text.tags import read_tag
from rosd_kit.text.templates import check_template, check_without_fields, fill, without_fields
from rosd_kit.text.thinking import Pairs, strip_thinking
from rosd_kit.types import Case, Completion, CutPlace, Message, Prompt, Reflection, ReflectionStatus

WRONG = """You are a tutor. Below are a problem, a correct solution and a student's incorrect solution.

[Problem]
{problem}

[Correct Solution]
{demonstration}

[Incorrect Solution]
{response}

[Answer]
{answer}

Find the place where the incorrect solution first goes wrong, and answer in exactly this form:
<error_quote>an EXACT substring of the incorrect solution, where its reasoning first goes wrong</error_quote>
<explanation>what the mistake is, how to mend it, and the right line of reasoning</explanation>"""

RIGHT = """You are a tutor. Below are a problem and a student's correct solution.

[Problem]
{problem}

[Solution]
{response}

[Answer]
{answer}

Say why the solution is valid, and answer in exactly this form:
<explanation>the line of reasoning that makes the solution right</explanation>"""

#: What models write instead of the tags that they were asked for.
_EXPLANATIONS = (
    *("explaination", "explanations", "explanaton", "explantion", "explnation", "explination", "explanaition", "expalanation"),
    *("explain", "reflection"),
)
_QUOTES = ("error_qoute", "eror_quote", "erorr_quote", "error_quotes", "error_quotation", "error_quoted", "quote")
_FIELDS = ("problem", "question", "demonstration", "response", "answer")


class Tutor(SelfReflector):
    """Asks the model itself for the first error of a rollout and a corrective idea, in ROSD's format."""

    name = "tutor"
    needs = frozenset({"demonstration"})
    provides = frozenset({"reflection", "quote"})

    class Config(SelfReflector.Config):
        """Options of `tutor`."""

        samples: PositiveInt = 1
        """Reflections on each wrong rollout. The first usable one is taken, and all are listed as its `alternatives`, for
        localizers that weigh them; several need a `temperature` above 0."""
        reflect_right: bool = True
        """Also reflect on right rollouts (why the solution is valid)."""
        system: str = ""
        """System message before either prompt; empty for none."""
        wrong_template: str = WRONG
        """Prompt template for wrong rollouts; fields: {problem} (all messages) or {question} (the last one), {demonstration}
        {response} {answer}."""
        right_template: str = RIGHT
        """Prompt template for right rollouts; fields: {problem} or {question}, {response} {answer}."""

        @field_validator("system")
        @classmethod
        def _system(cls, text: str) -> str:
            return check_without_fields(text, _FIELDS)

        @field_validator("wrong_template")
        @classmethod
        def _wrong(cls, template: str) -> str:
            return check_template(template, _FIELDS, required=("problem|question", "response"))

        @field_validator("right_template")
        @classmethod
        def _right(cls, template: str) -> str:
            known = [name for name in _FIELDS if name != "demonstration"]
            return check_template(template, known, required=("problem|question", "response"))

        @model_validator(mode="after")
        def _differ(self) -> Self:
            if self.samples > 1 and self.temperature == 0:
                raise ValueError(
                    f"samples={self.samples} greedy reflections would all be the same. Set temperature, for example to 1.0"
                )
            return self

    def reflect(self, cases: Sequence[Case], generate: Generate) -> list[Reflection]:
        repeated = [case for case in cases for _ in range(self._samples(case))]
        reflections = iter(super().reflect(repeated, generate))
        return [_first_usable([next(reflections) for _ in range(self._samples(case))]) for case in cases]

    def _samples(self, case: Case) -> int:
        return 1 if case.rollout.verdict.success or not self.asks(case) else int(self.config.samples)

    def prompt(self, case: Case) -> Prompt:
        right = case.rollout.verdict.success
        template = self.config.right_template if right else self.config.wrong_template
        cut: dict[str, CutPlace] = {"demonstration": self.config.cut, "response": "end"}  # first errors are in what is left
        head = (Message(role="system", content=without_fields(self.config.system)),) if self.config.system else ()
        return Prompt(head=head, sections=fill(template, fields_of(case), CUT_PRIORITY, cut))

    def read(self, answer: Completion, case: Case) -> Reflection:
        return read_reflection(answer, right=case.rollout.verdict.success, thinking=self.thinking, text=self.text_of(answer))

    def asks(self, case: Case) -> bool:
        return bool(self.config.reflect_right) if case.rollout.verdict.success else bool(case.views)


def _first_usable(reflections: Sequence[Reflection]) -> Reflection:
    """Return the first complete reflection, else the first; several become its alternatives."""
    chosen = next((one for one in reflections if one.status == "ok"), reflections[0])
    return chosen if len(reflections) == 1 else replace(chosen, alternatives=tuple(reflections))


def read_reflection(answer: Completion, *, right: bool, thinking: Pairs = (), text: str | None = None) -> Reflection:
    """Parse a reflection; the status says what is missing.

    `thinking` are more marks of thinking, as in `strip_thinking`; `text` is what to read instead of the whole answer.
    """
    if answer.finish_reason in ("overlong", "abort"):
        return Reflection(status=answer.finish_reason)
    text = strip_thinking(answer.text if text is None else text, thinking)
    idea, quote = read_tag(text, "explanation", _EXPLANATIONS), read_tag(text, "error_quote", _QUOTES)
    complete = idea.text is not None and (right or quote.text is not None)
    status: ReflectionStatus
    if complete:
        status = "ok"
    elif answer.finish_reason == "length":
        status = "truncated"
    elif idea.text is None and (right or quote.text is None):
        status = "unparsable"
    else:
        status = "no_idea" if idea.text is None else "no_quote"
    return Reflection(idea=idea.text, quote=None if right else quote.text, status=status, raw=answer.text)
