"""Fits prompts into a token budget: shortens privileged text and leaves everything else whole."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from rosd_kit.types import Message, Prompt, Section

CountTokens = Callable[[Sequence[Message]], int]
MARK = " ..."


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """A prompt's messages after fitting; `cut` is the number of shortened sections.

    `fits` says whether the budget is met and some cuttable text, if there was any, is left: a teacher's prompt without
    its privileged text would teach nothing.
    """

    messages: tuple[Message, ...]
    cut: int
    fits: bool


def assemble(prompt: Prompt) -> tuple[Message, ...]:
    """Return a prompt's messages with nothing cut."""
    content = "".join(section.text for section in prompt.sections)
    return (*prompt.head, {"role": prompt.role, "content": content})


def fit_prompt(prompt: Prompt, count_tokens: CountTokens, budget: int) -> Fitted:
    """Shorten sections from their end until the chat, generation header included, has at most `budget` tokens.

    Sections with a smaller `cut_priority` are shortened first; those with None never are. A shortened section ends in
    ` ...`; a section that would keep no text is left out.
    """
    cut, order = 0, _cut_order(prompt.sections)
    for index in order:
        if count_tokens(assemble(prompt)) <= budget:
            break
        prompt = _shorten(prompt, index, count_tokens, budget)
        cut += 1
    messages = assemble(prompt)
    keeps_text = not order or any(prompt.sections[index].text for index in order)
    return Fitted(messages=messages, cut=cut, fits=keeps_text and count_tokens(messages) <= budget)


def _cut_order(sections: Sequence[Section]) -> list[int]:
    """Return the indices of the cuttable sections, the first to be cut first."""
    cuttable = [i for i, section in enumerate(sections) if section.cut_priority is not None and section.text]
    return sorted(cuttable, key=lambda i: sections[i].cut_priority or 0)


def _shorten(prompt: Prompt, index: int, count_tokens: CountTokens, budget: int) -> Prompt:
    """Return the prompt with the longest prefix of one section that fits, or without that section if none fits."""
    words = _split_words(prompt.sections[index].text)

    def keep(count: int) -> Prompt:
        text = "".join(words[:count]) + MARK if count else ""
        sections = list(prompt.sections)
        sections[index] = replace(sections[index], text=text)
        return replace(prompt, sections=tuple(sections))

    low, high = 0, len(words) - 1
    while low < high:
        middle = (low + high + 1) // 2
        if count_tokens(assemble(keep(middle))) <= budget:
            low = middle
        else:
            high = middle - 1
    return keep(low)


def _split_words(text: str) -> list[str]:
    """Split a text into words, each with the space before it; split a text without spaces into characters."""
    words = text.split(" ")
    return [words[0], *(f" {word}" for word in words[1:])] if len(words) > 1 else list(text)
