"""The teacher's prompt: the problem's own messages, the last user message extended by privileged text."""

from __future__ import annotations

from collections.abc import Mapping

from rosd_kit.text.templates import fill
from rosd_kit.types import Problem, Prompt

#: Which privileged text is shortened first when a prompt is over its budget.
CUT_PRIORITY = {"attempt": 1, "solution": 2, "idea": 3, "feedback": 4}


def teacher_prompt(problem: Problem, template: str, fields: Mapping[str, str]) -> Prompt:
    """Return the problem's messages with the last one rewritten by `template`, whose `{problem}` is its own text."""
    *head, last = problem.messages
    sections = fill(template, {"problem": last["content"], **fields}, CUT_PRIORITY)
    return Prompt(head=tuple(head), sections=sections, role=last["role"])
