"""The reflector `example`: explains what went wrong in a rollout."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field

import rosd_kit as rk

#: The version of the plugin API that this plugin is written for.
rosd_kit_api = 2


class Example(rk.Reflector):
    """Asks the model why a wrong response is wrong, and uses its whole answer as the idea."""

    name = "example"
    provides = frozenset({"reflection"})

    class Config(rk.Config):
        """The question and the token budgets."""

        question: str = "Why is the solution wrong ?"
        """The question about the response."""
        max_prompt_tokens: int = Field(default=400, ge=1)
        """Token budget of the prompt; the response is shortened to fit."""
        max_new_tokens: int = Field(default=64, ge=1)
        """Longest answer, in tokens."""

    def reflect(self, cases: Sequence[rk.Case], generate: rk.Generate) -> list[rk.Reflection]:
        wrong = [index for index, case in enumerate(cases) if not case.rollout.verdict.success]
        reflections = [rk.Reflection(status="skipped")] * len(cases)
        answers = generate(
            [self._prompt(cases[index]) for index in wrong],
            sampling=rk.Sampling(temperature=0.0, max_new_tokens=self.config.max_new_tokens),
            max_prompt_tokens=self.config.max_prompt_tokens,
            weights="live",
        )
        for index, answer in zip(wrong, answers, strict=True):
            idea = answer.text.strip()
            status = answer.finish_reason if answer.finish_reason in ("overlong", "abort") else "truncated"
            complete = answer.finish_reason == "stop" and idea
            reflections[index] = rk.Reflection(
                idea=idea if complete else None, status="ok" if complete else status, raw=answer.text
            )
        return reflections

    def _prompt(self, case: rk.Case) -> rk.Prompt:
        *head, last = case.problem.messages
        sections = (
            rk.Section(text=f"{last['content']} Solution : "),
            rk.Section(text=case.rollout.completion.text, cut_priority=1),
            rk.Section(text=f" {self.config.question}"),
        )
        return rk.Prompt(head=tuple(head), sections=sections)


@rk.hookimpl
def rosd_kit_components() -> list[type[rk.Component]]:
    return [Example]
