"""Maps sampled tokens to character ranges, for any tokenizer, without encoding anything again.

The text of the first j tokens agrees with the whole text up to the characters that those tokens determine. Where it stops
agreeing, a character is still incomplete (half of a multi-byte one). Token j therefore covers the characters that the first
j + 1 tokens determine beyond the first j, plus the character that it leaves incomplete.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from rosd_kit.text.specials import control_tokens
from rosd_kit.text.thinking import is_thinking_mark

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

#: Decoding restarts in a new window after this many tokens, so that the work grows linearly with the text.
_WINDOW = 16


def decode_with_spans(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> tuple[str, list[tuple[int, int]]]:
    """Return the text of sampled ids without control tokens, and each token's half-open character range in it.

    Tokens that share a character all cover it. Control tokens have empty ranges at their position; marks of thinking are text.
    """
    # Marks of thinking stay, though many tokenizers call them control tokens: without them thinking would look like the answer.
    special = {token for token, mark in control_tokens(tokenizer).items() if not is_thinking_mark(mark)}
    kept = [index for index, token in enumerate(ids) if token not in special]
    decode, ordinary = _decoder(tokenizer), [ids[index] for index in kept]
    text = decode(ordinary)
    covered = iter(_spans(decode, ordinary, text))
    spans, end, plain = [], 0, set(kept)
    for index in range(len(ids)):
        span = next(covered) if index in plain else (end, end)
        end = max(end, span[1])
        spans.append(span)
    return text, spans


def _decoder(tokenizer: PreTrainedTokenizerBase) -> Callable[[list[int]], str]:
    """Return a function from ids to text.

    Where `decode` adds nothing to the backend's own but the time to convert arguments, it is left out.
    """
    from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

    kind = type(tokenizer)
    inherited = (("decode", PreTrainedTokenizerBase), ("_decode", PreTrainedTokenizerFast))
    if issubclass(kind, PreTrainedTokenizerFast) and all(
        getattr(kind, name) is getattr(base, name) for name, base in inherited
    ):
        return partial(tokenizer.backend_tokenizer.decode, skip_special_tokens=False)

    def decode(ids: list[int]) -> str:
        return str(tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False))

    return decode


def _spans(decode: Callable[[list[int]], str], ids: list[int], text: str) -> list[tuple[int, int]]:
    """Return the spans of ordinary tokens, decoding in windows that start where a character is complete.

    No window starts after a replacement character: whether bytes are invalid may depend on the bytes before them.
    """
    spans: list[tuple[int, int]] = []
    window, offset = 0, 0  # first token of the window, and the offset from its characters to the text's
    known, clean = 0, 0  # characters determined so far; last token boundary between whole characters
    for j in range(1, len(ids) + 1):
        decoded = decode(ids[window:j])
        agreed = _agreement(decoded, text, offset)
        determined = max(known, offset + agreed)
        open_character = agreed < len(decoded) and determined < len(text)
        spans.append((known, determined + int(open_character)))
        known = determined
        if not open_character and not decoded.endswith("\ufffd"):
            if j - window >= _WINDOW and clean > window:
                window, offset = clean, known - len(decode(ids[clean:j]))
            clean = j
    return spans


def _agreement(decoded: str, text: str, offset: int) -> int:
    """Return how many characters of `decoded` agree with `text` from `offset` on; only its end can differ."""
    for length in range(len(decoded), max(-1, len(decoded) - 8), -1):
        if text.startswith(decoded[:length], offset):
            return length
    same = (a == b for a, b in zip(decoded, text[offset:], strict=False))
    return sum(1 for _ in itertools.takewhile(bool, same))
