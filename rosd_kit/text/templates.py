"""Prompt templates: each `{field}` becomes a section of a prompt.

Only known field names are replaced: braces in data, and braces around what is no name, are plain text. `\\{field}` is the text
`{field}`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType

from rosd_kit.errors import did_you_mean
from rosd_kit.types import CutPlace, Section

#: A field after backslashes, an odd number of which make it plain text.
_FIELD = re.compile(r"(?<!\\)(\\*)\{([a-z_]+)\}")
#: A field that is nearly written right.
_MISSPELT = re.compile(r"(?<!\\)(?:\\\\)*\{([ \t]*[A-Za-z_]\w*[ \t]*)\}")


def check_template(template: str, known: Iterable[str], required: Iterable[str] = ("problem",)) -> str:
    """Return the template. Raises `ValueError` if it has an unknown field or lacks one of those `required`.

    `a|b` requires one of two fields.
    """
    known = sorted(known)
    names = {match[2] for match in _FIELD.finditer(template) if not _is_escaped(match)}
    near = {text for text in _MISSPELT.findall(template) if text not in known and text.strip().lower() in known}
    for name in sorted((names | near) - set(known)):
        suggestion = did_you_mean(name.strip().lower(), known)
        raise ValueError(
            f"unknown field {{{name}}};{suggestion} known: {', '.join('{' + k + '}' for k in known)}. "
            f"For the text {{{name}}} itself write \\{{{name}}}"
        )
    if lacking := [choice for choice in required if names.isdisjoint(choice.split("|"))]:
        fields = (" or ".join(f"{{{name}}}" for name in choice.split("|")) for choice in lacking)
        raise ValueError(f"the template must contain {' and '.join(fields)}")
    return template


def check_without_fields(text: str, known: Iterable[str]) -> str:
    """Return a text in which nothing is filled in. Raises `ValueError` if it has a field that the templates beside it know."""
    for match in _FIELD.finditer(text):
        if match[2] in known and not _is_escaped(match):
            raise ValueError(
                f"{match[0]}: this text has no fields. Write {match[0]} into a template, or \\{match[0]} for the text"
            )
    return text


def without_fields(text: str) -> str:
    """Return the text that a template without fields stands for."""
    return "".join(section.text for section in fill(text, {}, {}))


def fill(
    template: str,
    fields: Mapping[str, str],
    cut_priority: Mapping[str, int],
    cut: Mapping[str, CutPlace] = MappingProxyType({}),
) -> tuple[Section, ...]:
    """Return the template's sections: its own text, and the fields with their `cut_priority`, None if not listed.

    `cut` says where a field's text is cut when it is too long: in the middle if it is not listed.
    """
    sections, text, end = [], "", 0
    for match in _FIELD.finditer(template):
        slashes, name = match.groups()
        text += template[end : match.start()]
        end = match.end()
        if _is_escaped(match):
            text += f"{slashes[:-1]}{{{name}}}"
        elif name in fields:
            sections.append(Section(text=text + slashes))
            place = cut.get(name, "middle")
            sections.append(Section(text=fields[name], cut_priority=cut_priority.get(name), cut=place))
            text = ""
        else:
            text += match[0]
    sections.append(Section(text=text + template[end:]))
    return tuple(section for section in sections if section.text)


def _is_escaped(match: re.Match[str]) -> bool:
    return len(match[1]) % 2 == 1
