"""The laboratory's language: a fixed vocabulary, a word-level tokenizer and a chat template.

Texts are words separated by single spaces, with one token per word and one per number, so decoding an encoded text gives
the same text back. This module knows no task: it only lists the words that tasks and prompts may use.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

PAD, UNKNOWN, START, END = "<|pad|>", "<|unknown|>", "<|start|>", "<|end|>"
SPECIAL = (PAD, UNKNOWN, START, END)

#: The whole numbers 0 .. LARGEST each have one token.
LARGEST = 99

NAMES = ("Ann", "Bob", "Cid", "Dora")
COLOURS = ("red", "blue", "gold", "green", "pink", "grey", "black", "white", "brown", "violet", "orange", "silver")

_WORDS = [
    "system",
    "user",
    "assistant",
    ".",
    ",",
    ":",
    ";",
    "?",
    "!",
    "+",
    "-",
    "=",
    "(",
    ")",
    "Step",
    "Answer",
    "Start",
    "at",
    "Add",
    "Subtract",
    "What",
    "is",
    "the",
    "result",
    "it",
    "does",
    "show",
    "has",
    "coins",
    "gets",
    "pays",
    "How",
    "many",
    "Wait",
    "hours",
    "plus",
    "The",
    "clock",
    "shows",
    "jar",
    "Pour",
    "colour",
    "with",
    "gives",
    "Correct",
    "solution",
    "Wrong",
    "Right",
    "Solution",
    "Gold",
    "answer",
    "Find",
    "first",
    "error",
    "Why",
    "right",
    "Key",
    "idea",
    "Feedback",
    "Solve",
    "correctly",
    "Here",
    "another",
    "problem",
    "your",
    "previous",
    "attempt",
    "was",
    "wrong",
    "not",
    "understood",
    "<error_quote>",
    "</error_quote>",
    "<explanation>",
    "</explanation>",
    "<think>",
    "</think>",
    "no",
    "yes",
    "one",
    "two",
    "three",
    "then",
    "because",
    "so",
    "must",
    "be",
    "instead",
    "of",
    "and",
    "or",
    "but",
]

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '" + START + " ' + message['role'] + ' : ' + message['content'] + ' " + END + " ' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '" + START + " assistant : ' }}{% endif %}"
)


def vocabulary() -> list[str]:
    """Return all words in id order; the embedded model depends on this order, so it must never change."""
    numbers = [str(n) for n in range(LARGEST + 1)]
    words = [*SPECIAL, *numbers, *NAMES, *COLOURS, *_WORDS]
    return list(dict.fromkeys(words))


@cache
def build_tokenizer() -> PreTrainedTokenizerFast:
    """Build the tokenizer; each word outside the vocabulary becomes one unknown token."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    ids = {word: i for i, word in enumerate(vocabulary())}
    core = Tokenizer(models.WordLevel(vocab=ids, unk_token=UNKNOWN))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token=PAD,
        unk_token=UNKNOWN,
        eos_token=END,
        additional_special_tokens=[START],
        clean_up_tokenization_spaces=False,
        model_max_length=512,
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer
