"""The base of the reflectors that ask the model itself. It does not know what they ask."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, PositiveInt

from rosd_kit.contracts import Generate, Reflector
from rosd_kit.options import Fixed
from rosd_kit.types import Case, Completion, CutPlace, Problem, Prompt, Reflection, Sampling

#: Stands for {answer} where a problem has none: several answers may be right, and a verifier tells them apart.
NO_ANSWER = "(No single right answer is given for this problem.)"
#: The demonstration is shortened first, then the response, nothing else.
CUT_PRIORITY = {"demonstration": 1, "response": 2}


class SelfReflector(Reflector):
    """Asks the model one question per rollout and reads a reflection from its answer."""

    class Config(Reflector.Config):
        """Whose weights answer, how they are sampled, and the lengths."""

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

    def wants_initial(self) -> bool:
        return bool(self.config.weights == "frozen")

    @abstractmethod
    def asks(self, case: Case) -> bool:
        """Return whether to ask about this rollout; the others get status `skipped`."""

    @abstractmethod
    def prompt(self, case: Case) -> Prompt:
        """Return the prompt that asks about one rollout."""

    @abstractmethod
    def read(self, answer: Completion, case: Case) -> Reflection:
        """Parse the answer to `prompt(case)`."""

    def sampling(self) -> Sampling:
        """Return how answers are sampled."""
        return Sampling(temperature=self.config.temperature, top_p=self.config.top_p, max_new_tokens=self.config.max_new_tokens)

    def reflect(self, cases: Sequence[Case], generate: Generate) -> list[Reflection]:
        asked = [i for i, case in enumerate(cases) if self.asks(case)]
        reflections = [Reflection(status="skipped")] * len(cases)
        if asked:
            answers = generate(
                [self.prompt(cases[i]) for i in asked],
                sampling=self.sampling(),
                max_prompt_tokens=self.config.max_prompt_tokens,
                weights="initial" if self.config.weights == "frozen" else "live",
            )
            for i, answer in zip(asked, answers, strict=True):
                reflections[i] = self.read(answer, cases[i])
        return reflections


def fields_of(case: Case) -> dict[str, str]:
    """Return what templates may show of a case: problem, question, demonstration, response, answer."""
    return {
        "problem": conversation_text(case.problem),
        "question": case.problem.messages[-1]["content"],
        "demonstration": case.views[0].text if case.views else "",
        "response": case.rollout.completion.text,
        "answer": case.problem.answer or NO_ANSWER,
    }


def conversation_text(problem: Problem) -> str:
    """Return the problem's messages as one text, with their roles if there are several."""
    if len(problem.messages) == 1:
        return problem.messages[0]["content"]
    return "\n\n".join(f"{message['role']}: {message['content']}" for message in problem.messages)
