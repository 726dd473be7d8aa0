"""Fits prompts into a token budget: shortens privileged text and leaves everything else whole."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from rosd_kit.types import CutPlace, Message, Prompt, Section

CountTokens = Callable[[Sequence[Message]], int]
MARK = " ..."
_SURROGATE = re.compile("[\ud800-\udfff]")
#: A word with the white space before it, or white space at the end of the text.
_WORD = re.compile(r"\s*+\S++|\s++")
#: Longer words, and words of scripts that write without spaces, are cut by characters.
_LONGEST_WORD = 40


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
    """Return a prompt's messages with nothing cut.

    Sections may quote what a program printed, so a lone surrogate, which no tokenizer takes, becomes U+FFFD.
    """
    content = _SURROGATE.sub("\ufffd", "".join(section.text for section in prompt.sections))
    return (*prompt.head, {"role": prompt.role, "content": content})


def fit_prompt(prompt: Prompt, count_tokens: CountTokens, budget: int) -> Fitted:
    """Shorten sections until the chat, generation header included, has at most `budget` tokens.

    Sections with a smaller `cut_priority` are shortened first; those with None never are. Each loses words where its `cut`
    says, by default in the middle: its beginning and, to the last word, its conclusion stay. ` ...` stands where words are
    missing; a section that would keep no text is left out.
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
    """Return the prompt with as many words of one section as fit, or without that section if none fits."""
    section = prompt.sections[index]
    words = _split_words(section.text)

    def keep(count: int) -> Prompt:
        return _with_section(prompt, index, replace(section, text=_cut(words, count, section.cut)))

    low, high = 0, len(words) - 1
    while low < high:
        middle = (low + high + 1) // 2
        if count_tokens(assemble(keep(middle))) <= budget:
            low = middle
        else:
            high = middle - 1
    if low == 0 and section.cut == "middle":  # not even the last word fits; the first may
        return _shorten(_with_section(prompt, index, replace(section, cut="end")), index, count_tokens, budget)
    return keep(low)


def _with_section(prompt: Prompt, index: int, section: Section) -> Prompt:
    sections = list(prompt.sections)
    sections[index] = section
    return replace(prompt, sections=tuple(sections))


def _cut(words: Sequence[str], count: int, place: CutPlace) -> str:
    """Return `count` of the words, with a mark where the others were; of the halves around it, the last is not the shorter."""
    if not count:
        return ""
    last = {"end": 0, "start": count, "middle": (count + 1) // 2}[place]
    before, after = "".join(words[: count - last]), "".join(words[len(words) - last :])
    space = "" if not after or after[0].isspace() else " "
    return f"{before}{MARK if before else MARK.lstrip()}{space}{after}"


def _split_words(text: str) -> list[str]:
    """Split a text into words, each with the white space before it; split long words and other scripts into characters."""
    pieces: list[str] = []
    for word in _WORD.findall(text):
        pieces.extend([word] if len(word) <= _LONGEST_WORD and word.isascii() else word)
    return pieces
