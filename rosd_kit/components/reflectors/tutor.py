"""ROSD's self-reflector: the model compares a wrong rollout with a demonstration and quotes its first error.

Source: arXiv 2605.28014. A reflection has two tags, `<error_quote>` and `<explanation>`; on right rollouts only the latter.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, PositiveInt, field_validator

from rosd_kit.contracts import Generate, Reflector
from rosd_kit.options import Fixed
from rosd_kit.text.tags import read_tag
from rosd_kit.text.templates import check_template, fill
from rosd_kit.text.thinking import Pairs, strip_thinking
from rosd_kit.types import Case, Completion, CutPlace, Problem, Prompt, Reflection, ReflectionStatus, Sampling

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
#: Stands for {answer} where a problem has none: several answers may be right, and a verifier tells them apart.
NO_ANSWER = "(No single right answer is given for this problem.)"
_FIELDS = ("problem", "demonstration", "response", "answer")
_CUT_PRIORITY = {"demonstration": 1, "response": 2}


class Tutor(Reflector):
    """Asks the model itself for the first error of a rollout and a corrective idea, in ROSD's format."""

    name = "tutor"
    needs = frozenset({"demonstration"})
    provides = frozenset({"reflection", "quote"})

    class Config(Reflector.Config):
        """Options of `tutor`."""

        weights: Literal["frozen", "live"] = "frozen"
        """Whose weights reflect. `frozen`: the run's initial weights (the paper); `live`: the student's current weights."""
        temperature: NonNegativeFloat = 0.0
        """Sampling temperature; 0 is greedy (the paper)."""
        top_p: float = Field(default=1.0, gt=0.0, le=1.0)
        """Nucleus sampling mass; has no effect at temperature 0."""
        max_prompt_tokens: Annotated[PositiveInt, Fixed("memory is planned for it")] = 8192
        """Token budget of the prompt; the demonstration is shortened first, then the response, nothing else."""
        cut: CutPlace = "middle"
        """Where a demonstration over that budget is cut; the middle keeps its beginning and its conclusion."""
        max_new_tokens: Annotated[PositiveInt, Fixed("memory is planned for it")] = 4096
        """Maximum length of a reflection, in tokens."""
        reflect_right: bool = True
        """Also reflect on right rollouts (why the solution is valid)."""
        wrong_template: str = WRONG
        """Prompt template for wrong rollouts; fields: {problem} {demonstration} {response} {answer}."""
        right_template: str = RIGHT
        """Prompt template for right rollouts; fields: {problem} {response} {answer}."""

        @field_validator("wrong_template")
        @classmethod
        def _wrong(cls, template: str) -> str:
            return check_template(template, _FIELDS)

        @field_validator("right_template")
        @classmethod
        def _right(cls, template: str) -> str:
            return check_template(template, [name for name in _FIELDS if name != "demonstration"])

    def wants_initial(self) -> bool:
        return bool(self.config.weights == "frozen")

    def prompt(self, case: Case) -> Prompt:
        """Return the prompt that asks the tutor about one rollout."""
        right = case.rollout.verdict.success
        fields = {
            "problem": conversation_text(case.problem),
            "demonstration": case.views[0].text if case.views else "",
            "response": case.rollout.completion.text,
            "answer": case.problem.answer or NO_ANSWER,
        }
        template = self.config.right_template if right else self.config.wrong_template
        cut: dict[str, CutPlace] = {"demonstration": self.config.cut, "response": "end"}  # first errors are in what is left
        return Prompt(head=(), sections=fill(template, fields, _CUT_PRIORITY, cut))

    def reflect(self, cases: Sequence[Case], generate: Generate) -> list[Reflection]:
        asked = [i for i, case in enumerate(cases) if self.asks(case)]
        reflections = [Reflection(status="skipped")] * len(cases)
        if asked:
            answers = generate(
                [self.prompt(cases[i]) for i in asked],
                sampling=Sampling(
                    temperature=self.config.temperature,
                    top_p=self.config.top_p,
                    max_new_tokens=self.config.max_new_tokens,
                ),
                max_prompt_tokens=self.config.max_prompt_tokens,
                weights="initial" if self.config.weights == "frozen" else "live",
            )
            for i, answer in zip(asked, answers, strict=True):
                reflections[i] = self.read(answer, cases[i])
        return reflections

    def read(self, answer: Completion, case: Case) -> Reflection:
        """Parse the answer to `prompt(case)`."""
        return read_reflection(answer, right=case.rollout.verdict.success, thinking=self.thinking)

    def asks(self, case: Case) -> bool:
        """Return whether to ask about this rollout; the others get status `skipped`."""
        return bool(self.config.reflect_right) if case.rollout.verdict.success else bool(case.views)


def conversation_text(problem: Problem) -> str:
    """Return the problem's messages as one text, with their roles if there are several."""
    if len(problem.messages) == 1:
        return problem.messages[0]["content"]
    return "\n\n".join(f"{message['role']}: {message['content']}" for message in problem.messages)


def read_reflection(answer: Completion, *, right: bool, thinking: Pairs = ()) -> Reflection:
    """Parse a reflection; the status says what is missing. `thinking` are more marks of thinking, as in `strip_thinking`."""
    if answer.finish_reason in ("overlong", "abort"):
        return Reflection(status=answer.finish_reason)
    text = strip_thinking(answer.text, thinking)
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
