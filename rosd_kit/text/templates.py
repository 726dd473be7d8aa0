"""Prompt templates: each `{field}` becomes a section of a prompt.

Only known field names are replaced: braces in data, and braces around anything else, are plain text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from rosd_kit.types import Section

_FIELD = re.compile(r"\{([a-z_]+)\}")


def check_template(template: str, known: Iterable[str]) -> str:
    """Return the template. Raises `ValueError` if it has an unknown field or lacks `{problem}`."""
    known = sorted(known)
    for name in _FIELD.findall(template):
        if name not in known:
            raise ValueError(f"unknown field {{{name}}}; known: {', '.join('{' + k + '}' for k in known)}")
    if "{problem}" not in template and "problem" in known:
        raise ValueError("the template must contain {problem}")
    return template


def fill(template: str, fields: Mapping[str, str], cut_priority: Mapping[str, int]) -> tuple[Section, ...]:
    """Return the template's sections: its own text, and the fields with their `cut_priority`, None if not listed."""
    sections, end = [], 0
    for match in _FIELD.finditer(template):
        if match.group(1) in fields:
            sections.append(Section(text=template[end : match.start()]))
            sections.append(Section(text=fields[match.group(1)], cut_priority=cut_priority.get(match.group(1))))
            end = match.end()
    sections.append(Section(text=template[end:]))
    return tuple(section for section in sections if section.text)
