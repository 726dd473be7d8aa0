"""The context `example`: writes the teacher's prompt."""

from __future__ import annotations

import rosd_kit as rk

#: The version of the plugin API that this plugin is written for.
rosd_kit_api = 2


class Example(rk.Context):
    """Shows the teacher one correct solution before the problem; without a solution there is no teacher prompt."""

    name = "example"
    needs = frozenset({"demonstration"})
    provides = frozenset({"teacher_prompt"})

    class Config(rk.Config):
        """The text around the solution."""

        before: str = "Correct solution : "
        """Text before the solution."""
        after: str = " Solve it correctly . "
        """Text between the solution and the problem."""

    def prompts(self, case: rk.Case) -> tuple[rk.Prompt, ...]:
        if not case.views or not case.views[0].text:
            return ()
        *head, last = case.problem.messages
        sections = (
            rk.Section(text=self.config.before),
            rk.Section(text=case.views[0].text, cut_priority=1),
            rk.Section(text=self.config.after),
            rk.Section(text=last["content"]),
        )
        return (rk.Prompt(head=tuple(head), sections=sections, role=last["role"]),)


@rk.hookimpl
def rosd_kit_components() -> list[type[rk.Component]]:
    return [Example]
