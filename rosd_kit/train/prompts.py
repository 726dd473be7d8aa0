"""Chat messages to token ids, with no way for a message's text to pose as the template's control tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from threading import Lock
from typing import Any

from rosd_kit.text.specials import control_tokens
from rosd_kit.types import Message

#: Whether special tokens mean anything is a state of the tokenizer, which threads share that reflect on different groups.
_ENCODING = Lock()


def encode_chat(tokenizer: Any, messages: Sequence[Message], template_options: Mapping[str, Any]) -> tuple[int, ...]:
    """Return the ids of a chat with the generation header.

    Where no message holds a special-token string, this is the tokenizer's own chat template, encoded in one piece. Where one
    does, template and contents are encoded apart, and no special id can come out of a content.
    """
    with _ENCODING:
        return _encode(tokenizer, messages, template_options)


def _encode(tokenizer: Any, messages: Sequence[Message], template_options: Mapping[str, Any]) -> tuple[int, ...]:
    hostile = any(special in message["content"] for special in control_tokens(tokenizer).values() for message in messages)
    if not hostile:
        return _ids(tokenizer, _render(tokenizer, messages, template_options))
    marks = [f"\ue000{i}\ue001" for i in range(len(messages))]
    marked = [{**message, "content": mark} for message, mark in zip(messages, marks, strict=True)]
    rest = _render(tokenizer, marked, template_options)
    ids: list[int] = []
    for message, mark in zip(messages, marks, strict=True):
        before, found, rest = rest.partition(mark)
        ids.extend(_ids(tokenizer, before))
        if found:
            ids.extend(_plain_ids(tokenizer, message["content"]))
    return (*ids, *_ids(tokenizer, rest))


def _render(tokenizer: Any, messages: Sequence[Any], options: Mapping[str, Any]) -> str:
    rendered = tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=True, **options)
    return str(rendered)


def _ids(tokenizer: Any, text: str) -> tuple[int, ...]:
    return tuple(tokenizer(text, add_special_tokens=False)["input_ids"]) if text else ()


def _plain_ids(tokenizer: Any, text: str) -> list[int]:
    """Encode text in which special tokens mean nothing; what still comes out as one becomes unknown, or is left out."""
    ids = tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    special, unknown = control_tokens(tokenizer), tokenizer.unk_token_id
    kept = [unknown if i in special and i != unknown else i for i in ids]
    return [i for i in kept if i is not None]
