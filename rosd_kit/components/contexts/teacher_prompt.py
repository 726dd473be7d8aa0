"""Builds the teacher's prompt: the problem's messages, with privileged text added to the last one."""

from __future__ import annotations

from collections.abc import Mapping

from rosd_kit.contracts import Context
from rosd_kit.text.templates import fill
from rosd_kit.types import CutPlace, Problem, Prompt

#: Privileged text is shortened in this order, smallest number first, when a prompt exceeds its token budget.
CUT_PRIORITY = {"attempt": 1, "solution": 2, "idea": 3, "feedback": 4}


class PrivilegedContext(Context):
    """Base of the contexts that show privileged text."""

    class Config(Context.Config):
        """How to shorten privileged text."""

        cut: CutPlace = "middle"
        """Where privileged text over `sampling.max_teacher_prompt_tokens` is cut; the middle keeps beginning and conclusion."""

    def teacher_prompt(self, problem: Problem, template: str, fields: Mapping[str, str]) -> Prompt:
        """Return the problem's messages with the last one replaced by `template`, where `{problem}` stands for its text."""
        *head, last = problem.messages
        cut = dict.fromkeys(fields, self.config.cut)
        sections = fill(template, {"problem": last["content"], **fields}, CUT_PRIORITY, cut)
        return Prompt(head=tuple(head), sections=sections, role=last["role"])
