"""Lists the control tokens of a tokenizer, which are not text."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def control_tokens(tokenizer: PreTrainedTokenizerBase) -> dict[int, str]:
    """Return every control token by id: those with a role (end, padding) and those that only the chat template uses."""
    named = dict(zip(tokenizer.all_special_ids, map(str, tokenizer.all_special_tokens), strict=True))
    return named | {i: str(token) for i, token in tokenizer.added_tokens_decoder.items() if token.special}


def ids_without_token(tokenizer: PreTrainedTokenizerBase, size: int) -> list[int]:
    """Return the ids below `size` for which the tokenizer has no token; sampled, they would have no text."""
    known = set(tokenizer.get_vocab().values())
    return [id for id in range(size) if id not in known]
