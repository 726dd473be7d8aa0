"""What demonstrations show: successful siblings of a rollout, or solutions, without their thinking."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from rosd_kit.contracts import Demonstration
from rosd_kit.text.thinking import strip_thinking
from rosd_kit.types import Group, Problem, Rollout, View

#: A tag for thinking with some models, and for a part of the answer where the problem asks for it.
_REQUESTED = "reasoning"


class Shown(Demonstration):
    """Base of the demonstrations that show a response or a solution."""

    class Config(Demonstration.Config):
        """What to show of a text."""

        thinking: Literal["remove", "keep"] = "remove"
        """Whether to show the thinking before a solution. SDPO removes it; it is long, and may doubt what the solution says."""

    def view(self, text: str, problem: Problem, source: str) -> View | None:
        """Return the view of a text that answers a problem, or None if nothing of it would be shown."""
        if self.config.thinking == "remove":
            requested = any(f"<{_REQUESTED}>" in message["content"].lower() for message in problem.messages)
            solution = strip_thinking(text, self.thinking, kept={_REQUESTED} if requested else ())
            text = text if solution == text else solution.strip()
        return View(text=text, source=source) if text.strip() else None


class Siblings(Shown):
    """Base of the demonstrations that show a successful sibling."""

    def successes(self, group: Group, rollout: Rollout) -> list[tuple[Rollout, View]]:
        """Return the other successful rollouts of the group that show something, in sampling order, with their views."""
        others = [other for other in group.rollouts if other.verdict.success and other.index != rollout.index]
        views = [self.view(self._shown(other), group.problem, f"sibling {other.index}") for other in others]
        return [(other, view) for other, view in zip(others, views, strict=True) if view is not None]

    def _shown(self, rollout: Rollout) -> str:
        return self.text_of(rollout.completion) if self.config.thinking == "remove" else rollout.completion.text


def first_view(siblings: Sequence[tuple[Rollout, View]]) -> tuple[View, ...]:
    """Return the view of the first of some siblings, or nothing."""
    return tuple(view for _, view in siblings[:1])
