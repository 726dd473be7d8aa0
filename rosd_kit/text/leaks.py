"""Finding in a response what only its teacher was told of: the known leak of self-distillation.

A student that is pulled towards a teacher with a reference solution in its prompt begins to speak of that solution. These
are the phrases in which it does; a task whose problems speak so themselves has a share of them from the start.
"""

from __future__ import annotations

import re

_THING = r"(?:solution|answer|explanation|demonstration|reasoning|key idea|feedback|hint)s?"
_GIVEN = r"(?:reference|provided|given|correct|sample|example|ground[- ]truth|expert|gold)"
LEAK = re.compile(
    rf"\b(?:according to|based on|following|consistent with|as (?:shown|stated|given|described|explained) (?:in|by)|matches)\s+"
    rf"(?:the|this|that)\s+(?:{_GIVEN}\s+)*{_THING}\b"
    rf"|\bthe\s+(?:reference|provided|ground[- ]truth|gold)\s+{_THING}\b"
    rf"|\bkey idea\s*:|\bcorrect solution\s*:",
    re.IGNORECASE,
)


def leaks(text: str) -> bool:
    """Return whether a response speaks of a reference that its own prompt does not hold."""
    return LEAK.search(text) is not None
