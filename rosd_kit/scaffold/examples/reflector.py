"""The reflector `example`: what went wrong, and how to do it right."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field

import rosd_kit as rk

#: The version of the plugin API that this was written for.
rosd_kit_api = 2


class Example(rk.Reflector):
    """Asks the model why a wrong response is wrong, and takes the whole answer as the idea."""

    name = "example"
    provides = frozenset({"reflection"})

    class Config(rk.Config):
        """What is asked, and the budgets."""

        question: str = "Why is the solution wrong ?"
        """What the model is asked about the response."""
        max_prompt_tokens: int = Field(default=400, ge=1)
        """Budget of the prompt; the response is shortened to fit."""
        max_new_tokens: int = Field(default=64, ge=1)
        """Longest answer."""

    def reflect(self, cases: Sequence[rk.Case], generate: rk.Generate) -> list[rk.Reflection]:
        wrong = [place for place, case in enumerate(cases) if not case.rollout.verdict.success]
        found = [rk.Reflection(status="skipped")] * len(cases)
        answers = generate(
            [self._prompt(cases[place]) for place in wrong],
            sampling=rk.Sampling(temperature=0.0, max_new_tokens=self.config.max_new_tokens),
            max_prompt_tokens=self.config.max_prompt_tokens,
            weights="live",
        )
        for place, answer in zip(wrong, answers, strict=True):
            idea = answer.text.strip()
            status = answer.finish_reason if answer.finish_reason in ("overlong", "abort") else "truncated"
            whole = answer.finish_reason == "stop" and idea
            found[place] = rk.Reflection(idea=idea if whole else None, status="ok" if whole else status, raw=answer.text)
        return found

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
