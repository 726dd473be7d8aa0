"""Detects leakage: responses that mention a reference only the teacher's prompt contains.

A student trained towards a teacher with a reference solution in its prompt may start to mention that solution. The
phrases below catch this. Tasks whose problems use such phrases themselves have a nonzero leak rate from the start.
"""

from __future__ import annotations

import re

from rosd_kit.text.normal import normal_form

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
    """Return whether a response mentions a reference, which its own prompt does not contain."""
    return LEAK.search(normal_form(text)) is not None
