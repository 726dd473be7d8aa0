"""Removes a model's thinking from its text, in every spelling that models use. Knows neither models nor recipes.

| spelling | models |
|---|---|
| `<think>`, `<thinking>`, `<thought>`, `<reasoning>` | Qwen, DeepSeek, GLM, EXAONE and many prompts |
| `<seed:think>`, `<longcat_think>`, `<think_fast>` | Seed-OSS, LongCat, K2 |
| `[THINK]` | Magistral, Ministral |
| `◁think▷` | Kimi |
| `<|begin_of_thought|>`, `<|START_THINKING|>`, `<|think_start|>` | OpenThinker, Command A and others |
| `<|channel|>analysis`, `<|channel>thought` | gpt-oss (harmony), Gemma |

All patterns are linear in the text: repetitions are possessive or bounded.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from functools import lru_cache

Pairs = tuple[tuple[str, str], ...]

_NAME = r"(?:(?:seed|mm):|longcat_)?(?:think(?:ing|_fast|_faster)?|thoughts?|reasoning)"
_OPEN = (
    rf"<\s*+{_NAME}\s*+>",
    rf"<[|｜](?:(?:begin|start)[_▁](?:of[_▁])?{_NAME}|{_NAME}(?:[_▁](?:begin|start))?)[|｜]>",
    r"(?-i:\[THINK(?:ING)?\])",
    r"◁\s*+think(?:ing)?\s*+▷",
    r"<\|channel\|>\s*+analysis\b(?:[^<]{0,200}+<\|message\|>)?",
    r"<\|channel>\s*+thought\b",
    r"(?-i:\A\s*+analysis(?=[A-Z]))",  # harmony without its control tokens
)
_CLOSE = (
    rf"<\s*+/\s*+{_NAME}\s*+>",
    rf"<[|｜](?:end[_▁](?:of[_▁])?{_NAME}|/{_NAME}|{_NAME}[_▁]end)[|｜]>",
    r"(?-i:\[/THINK(?:ING)?\])",
    r"◁\s*+/\s*+think(?:ing)?\s*+▷",
    r"<\|channel\|>\s*+(?:final\b(?:[^<]{0,200}+(?:<\|constrain\|>[^<]{0,200}+)?<\|message\|>)?|commentary\b)",
    r"<channel\|>",
    r"(?-i:assistant(?:final|commentary))",
)
#: Tokens of which a mark of thinking consists, besides whole marks.
_PARTS = frozenset({"<|channel|>", "<|message|>", "<|channel>"})


def strip_thinking(text: str, pairs: Pairs = (), *, kept: Collection[str] = ()) -> str:
    """Return the text after its last thinking block.

    If the chat template opened the block, only its closing mark is in the text; without that, see `Component.text_of`. A block
    that never closes hides the rest.
    `pairs` are more marks, (opening, closing), besides those that models are known to use; they are taken literally. `kept`
    names tags, like `reasoning`, that are part of the answer here.
    """
    opening, closing = _patterns(pairs)
    rest = text[max((mark.end() for mark in closing.finditer(text) if _tag(mark) not in kept), default=0) :]
    opened = next((mark for mark in opening.finditer(rest) if _tag(mark) not in kept), None)
    return rest[: opened.start()] if opened else rest


def opens_thinking(header: str, pairs: Pairs = ()) -> bool:
    """Return whether a response that follows this text begins inside a thinking block."""
    opening, closing = _patterns(pairs)
    opened = max((mark.end() for mark in opening.finditer(header)), default=-1)
    return opened > max((mark.start() for mark in closing.finditer(header)), default=-1)


def closes_thinking(text: str, pairs: Pairs = ()) -> bool:
    """Return whether a thinking block ends in this text."""
    return _patterns(pairs)[1].search(text) is not None


def is_thinking_mark(token: str) -> bool:
    """Return whether a token opens or closes thinking, or is a part of such a mark."""
    return token in _PARTS or any(pattern.fullmatch(token) for pattern in _patterns(()))


def check_pairs(pairs: Sequence[tuple[str, str]]) -> Pairs:
    """Return the pairs. Raises `ValueError` for an empty mark, or an opening mark that equals its closing one."""
    for opening, closing in pairs:
        if not opening.strip() or not closing.strip() or opening == closing:
            raise ValueError(
                f"[{opening!r}, {closing!r}]: write two different marks that are not empty, the opening and the closing one, "
                'for example ["<ponder>", "</ponder>"]'
            )
    return tuple(pairs)


def _tag(mark: re.Match[str]) -> str:
    return re.sub(r"\W+", "", mark.group()).casefold()


@lru_cache(maxsize=16)
def _patterns(pairs: Pairs) -> tuple[re.Pattern[str], re.Pattern[str]]:
    def union(known: Sequence[str], more: Sequence[str]) -> re.Pattern[str]:
        literal = [f"(?-i:{re.escape(mark)})" for mark in sorted(more, key=len, reverse=True)]
        return re.compile("|".join([*literal, *known]), re.IGNORECASE)

    return union(_OPEN, [pair[0] for pair in pairs]), union(_CLOSE, [pair[1] for pair in pairs])
