"""Characters to the tokens that were really sampled, for any tokenizer, without encoding anything again.

The text of the first j tokens agrees with the whole text up to the characters that those tokens determine; where it stops
agreeing, a character is still incomplete (half of a multi-byte one). Token j therefore covers what the first j + 1 tokens
determine beyond the first j, and the character that it leaves incomplete.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from rosd_kit.text.specials import control_tokens

#: A new window of decoding starts after so many tokens, so that the work grows linearly with the text.
_WINDOW = 16


def decode_with_spans(tokenizer: Any, ids: Sequence[int]) -> tuple[str, list[tuple[int, int]]]:
    """Return the text of sampled ids, control tokens left out, and each token's half-open range of characters in it.

    Tokens that share a character all cover it. Control tokens are empty ranges at their place.
    """
    special = control_tokens(tokenizer)
    kept = [place for place, token in enumerate(ids) if token not in special]
    text = _decode(tokenizer, [ids[place] for place in kept])
    covered = iter(_spans(tokenizer, [ids[place] for place in kept], text))
    spans, at, plain = [], 0, set(kept)
    for place in range(len(ids)):
        span = next(covered) if place in plain else (at, at)
        at = max(at, span[1])
        spans.append(span)
    return text, spans


def first_token_overlapping(spans: Sequence[tuple[int, int]], start: int, end: int) -> int | None:
    """Return the index of the first token that shares a character with `start` .. `end`, or None."""
    return next((i for i, (a, b) in enumerate(spans) if max(a, start) < min(b, end)), None)


def _decode(tokenizer: Any, ids: Sequence[int]) -> str:
    return str(tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False))


def _spans(tokenizer: Any, ids: Sequence[int], text: str) -> list[tuple[int, int]]:
    """Return spans of ordinary tokens, decoding windows that begin where a character is complete.

    No window begins behind a replacement character: what is invalid there may depend on the bytes before it.
    """
    spans: list[tuple[int, int]] = []
    window, offset = 0, 0  # the window's first token, and what to add to its characters to get the text's
    known, clean = 0, 0  # characters determined so far; the last token boundary between whole characters
    for j in range(1, len(ids) + 1):
        piece = _decode(tokenizer, ids[window:j])
        agreed = _agreement(piece, text, offset)
        determined = max(known, offset + agreed)
        open_character = agreed < len(piece) and determined < len(text)
        spans.append((known, determined + int(open_character)))
        known = determined
        if not open_character and not piece.endswith("\ufffd"):
            if j - window >= _WINDOW and clean > window:
                window, offset = clean, known - len(_decode(tokenizer, ids[clean:j]))
            clean = j
    return spans


def _agreement(piece: str, text: str, offset: int) -> int:
    """Return how many characters of `piece` stand in `text` from `offset` on; only its end can differ."""
    for length in range(len(piece), max(-1, len(piece) - 8), -1):
        if text.startswith(piece[:length], offset):
            return length
    same = (a == b for a, b in zip(piece, text[offset:], strict=False))
    return sum(1 for _ in itertools.takewhile(bool, same))
