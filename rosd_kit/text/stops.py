"""Finds where a stop string ends a response. Knows token ids and texts; knows no engine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

#: Tokens that are decoded before those that can hold the stop string: some tokenizers drop a space at the start.
_MARGIN = 4


def completes_stop(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int], stops: Sequence[str]) -> bool:
    """Return whether the last tokens of a response hold one of the stop strings, wherever its tokens begin and end.

    Control tokens count as they are spelt, so `<|im_end|>` may be a stop string. Call it after every token: it decodes no more
    of the response than the last token can complete.
    """
    if not stops:
        return False
    # Every token that takes part in a stop string holds a byte of it.
    last = ids[-max(len(stop.encode()) for stop in stops) - _MARGIN :]
    text = str(tokenizer.decode(list(last), skip_special_tokens=False, clean_up_tokenization_spaces=False))
    return any(stop in text for stop in stops)
