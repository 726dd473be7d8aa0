"""Prompts under a token budget: privileged text is shortened, everything else stays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from rosd_kit.types import Message, Prompt, Section

CountTokens = Callable[[Sequence[Message]], int]
MARK = " ..."


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """A prompt's messages after cutting; `cut` is how many sections were shortened.

    `fits` says whether the budget is met with something of the sections that may be cut still there: a teacher's prompt
    without its privileged text would teach nothing.
    """

    messages: tuple[Message, ...]
    cut: int
    fits: bool


def assemble(prompt: Prompt) -> tuple[Message, ...]:
    """Return a prompt's messages, nothing cut."""
    content = "".join(section.text for section in prompt.sections)
    return (*prompt.head, {"role": prompt.role, "content": content})


def fit_prompt(prompt: Prompt, count_tokens: CountTokens, budget: int) -> Fitted:
    """Shorten sections from their end until the chat, generation header included, has at most `budget` tokens.

    Sections with a smaller `cut_priority` are shortened before those with a larger one; those with None never are. A
    section that is shortened ends in ` ...`; one that would keep nothing is left out.
    """
    cut, order = 0, _order(prompt.sections)
    for index in order:
        if count_tokens(assemble(prompt)) <= budget:
            break
        prompt = _shorten(prompt, index, count_tokens, budget)
        cut += 1
    messages = assemble(prompt)
    left = not order or any(prompt.sections[index].text for index in order)
    return Fitted(messages=messages, cut=cut, fits=left and count_tokens(messages) <= budget)


def _order(sections: Sequence[Section]) -> list[int]:
    cuttable = [i for i, section in enumerate(sections) if section.cut_priority is not None and section.text]
    return sorted(cuttable, key=lambda i: sections[i].cut_priority or 0)


def _shorten(prompt: Prompt, index: int, count_tokens: CountTokens, budget: int) -> Prompt:
    """Return the prompt with the longest beginning of one section that fits, or without it when none does."""
    words = _pieces(prompt.sections[index].text)

    def kept(count: int) -> Prompt:
        text = "".join(words[:count]) + MARK if count else ""
        sections = list(prompt.sections)
        sections[index] = replace(sections[index], text=text)
        return replace(prompt, sections=tuple(sections))

    low, high = 0, len(words) - 1
    while low < high:
        middle = (low + high + 1) // 2
        if count_tokens(assemble(kept(middle))) <= budget:
            low = middle
        else:
            high = middle - 1
    return kept(low)


def _pieces(text: str) -> list[str]:
    """Cut a text into words with the white space before them; a text with no space is cut into characters."""
    words = text.split(" ")
    return [words[0], *(f" {word}" for word in words[1:])] if len(words) > 1 else list(text)
