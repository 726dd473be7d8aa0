"""The context `example`: what the teacher is told."""

from __future__ import annotations

import rosd_kit as rk

#: The version of the plugin API that this was written for.
rosd_kit_api = 2


class Example(rk.Context):
    """Tells the teacher one solution before the problem is asked; without one it tells nothing."""

    name = "example"
    needs = frozenset({"demonstration"})
    provides = frozenset({"teacher_prompt"})

    class Config(rk.Config):
        """The words around the solution."""

        before: str = "Correct solution : "
        """Stands before the solution."""
        after: str = " Solve it correctly . "
        """Stands between the solution and the problem."""

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
