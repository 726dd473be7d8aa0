"""Measures how much of some texts a tokenizer cannot read: words that become its unknown token, or nothing at all.

Texts are read without a chat template, so a template that writes the unknown token as a control token does not count. Does not
know where the texts come from.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rosd_kit.errors import RunError, shortened
from rosd_kit.model.micro.model import BLANKS, EMBEDDED
from rosd_kit.settings import ModelSettings

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_EXAMPLES = 3


@dataclass(frozen=True, kw_only=True)
class UnreadText:
    """How many tokens some texts have, how many of those are unknown, and the most frequent words that hold one."""

    tokens: int = 0
    unknown: int = 0
    words: tuple[str, ...] = ()

    @property
    def share(self) -> float:
        """The share of unknown tokens, 0 without tokens."""
        return self.unknown / self.tokens if self.tokens else 0.0


def measure_unread(tokenizer: PreTrainedTokenizerBase, texts: Iterable[str]) -> UnreadText:
    """Count the unknown tokens of the words of these texts; a word that the tokenizer drops counts as one unknown token."""
    words = Counter(word for text in texts for word in text.split())
    if not words:
        return UnreadText()
    ids = tokenizer(list(words), add_special_tokens=False, split_special_tokens=True)["input_ids"]
    tokens, unknown, unread = 0, 0, Counter[str]()
    for (word, count), of_word in zip(words.items(), ids, strict=True):
        bad = sum(id == tokenizer.unk_token_id for id in of_word) if of_word else 1
        tokens += count * max(1, len(of_word))
        unknown += count * bad
        unread[word] += count * bool(bad)
    frequent = tuple(word for word, count in unread.most_common(_EXAMPLES) if count)
    return UnreadText(tokens=tokens, unknown=unknown, words=frequent)


def check_readable(tokenizer: PreTrainedTokenizerBase, settings: ModelSettings, what: str, texts: Iterable[str]) -> None:
    """Raise `RunError` if more of these texts is unknown to the tokenizer than `model.unknown_tokens` allows.

    `what` names the texts in the message, for example "the prompts of task 'dataset'".
    """
    unread = measure_unread(tokenizer, texts)
    if unread.share <= settings.unknown_tokens:
        return
    is_laboratory = settings.path in EMBEDDED or settings.path in BLANKS
    laboratory = " The embedded models read only the words of their own problems." if is_laboratory else ""
    raise RunError(
        f"model.unknown_tokens: {100 * unread.share:.0f}% of the tokens in {what} are unknown to the tokenizer of "
        f"{settings.path!r}, and at most {100 * settings.unknown_tokens:g}% are allowed. Frequent words that it cannot read: "
        f"{', '.join(shortened(word, 30) for word in unread.words)}.{laboratory} Choose a model that reads this text, for "
        "example with --profile smol, --profile one-gpu or model.path=..., or raise model.unknown_tokens."
    )
