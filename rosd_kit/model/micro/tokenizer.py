"""The laboratories' languages: a fixed vocabulary each, a word-level tokenizer and a chat template.

Texts are words separated by single spaces, with one token per word and one per number, so decoding an encoded text gives
the same text back.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from rosd_kit.model.micro.words import WORDS

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

PAD, UNKNOWN, START, END = "<|pad|>", "<|unknown|>", "<|start|>", "<|end|>"
#: Most tokens of a sequence.
MAX_TOKENS = 512
SPECIAL = (PAD, UNKNOWN, START, END)

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '" + START + " ' + message['role'] + ' : ' + message['content'] + ' " + END + " ' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '" + START + " assistant : ' }}{% endif %}"
)


def vocabulary(model: str = "micro") -> list[str]:
    """Return all words of an embedded model in id order."""
    return list(dict.fromkeys([*SPECIAL, *WORDS[model]]))


@cache
def build_tokenizer(model: str = "micro") -> PreTrainedTokenizerFast:
    """Build an embedded model's tokenizer; each word outside the vocabulary becomes one unknown token."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    ids = {word: i for i, word in enumerate(vocabulary(model))}
    core = Tokenizer(models.WordLevel(vocab=ids, unk_token=UNKNOWN))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token=PAD,
        unk_token=UNKNOWN,
        eos_token=END,
        additional_special_tokens=[START],
        clean_up_tokenization_spaces=False,
        model_max_length=MAX_TOKENS,
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer
