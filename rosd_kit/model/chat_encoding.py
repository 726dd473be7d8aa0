"""Encodes rendered chats so that no text of a message becomes one of the template's control tokens.

The prompt is always what transformers renders. If a message spells a control token, the chat is rendered once more with private
marks around that text; the marks show which control tokens come from messages, and never reach the prompt: without them, the
second rendering must be the first.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from threading import Lock
from typing import TYPE_CHECKING, Any, cast

from jinja2 import TemplateError
from tokenizers import Tokenizer

from rosd_kit.model.control_text import ControlText, Origins
from rosd_kit.model.template_tokens import template_control_tokens

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


#: Whether a tokenizer splits special tokens is state inside the tokenizer, which the reflection threads share.
_ENCODING = Lock()
_PRIVATE_USE = ((0xE000, 0xF900), (0xF0000, 0xFFFFE), (0x100000, 0x10FFFE))

#: What a template raises, or Python while it computes with messages that it does not expect.
_TEMPLATE_ERRORS = (TemplateError, TypeError, ValueError, AttributeError, LookupError, ArithmeticError, RecursionError)

Messages = Sequence[Mapping[str, object]]


class TemplateRefusal(Exception):
    """The chat template raised an error; what a tokenizer raises afterwards is another matter."""


class ChatEncoder:
    """Renders chats with a tokenizer's template and these template options, and encodes them."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, options: Mapping[str, object]) -> None:
        self.tokenizer = tokenizer
        self.options: dict[str, Any] = dict(options)  # passed on as keyword arguments

    def render(self, messages: Messages, *, header: bool = True) -> str:
        """Return the text that transformers renders; `header` adds the generation header. Raises `TemplateRefusal`."""
        chat: list[dict[str, Any]] = [dict(message) for message in messages]  # transformers declares plain strings
        try:
            return str(self.tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=header, **self.options))
        except _TEMPLATE_ERRORS as error:
            raise TemplateRefusal(str(error)) from error

    def encode(self, messages: Messages) -> tuple[int, ...]:
        """Return the ids of a chat with the generation header. Raises `TemplateRefusal`."""
        rendered = self.render(messages)
        if self.spells_control_tokens(messages):
            rendered, origins = self._origins(messages, rendered)
            control = self.text.template_tokens(rendered, origins)
            if control != list(self.text.find(rendered)):
                with _ENCODING:
                    return tuple(self._encode_safely(rendered, control))
        return self.ids(rendered)

    @cached_property
    def text(self) -> ControlText:
        """Finds control tokens in texts."""
        return ControlText(tuple(self.control.values()))

    @cached_property
    def control(self) -> dict[int, str]:
        """The control tokens by id: special tokens, and added tokens that the template writes."""
        return template_control_tokens(self.tokenizer, self.options)

    def spells_control_tokens(self, messages: Messages) -> bool:
        """Return whether a message spells a control token, or an end of one that its surroundings might complete."""
        return any(self.text.is_suspicious(value) for value in _texts(messages))

    def _origins(self, messages: Messages, rendered: str) -> tuple[str, Origins]:
        """Return the text to encode, and which of its control tokens come from messages.

        The text is `rendered` unless the template treats every marked text differently from the plain one; then the messages'
        control tokens are rendered with a space in them. That rendering also says which tokens are the template's: a template
        that cuts texts may cut off a mark and nothing else, and what the other marks then say is not believed.
        """
        broken = self.render(_map_texts(messages, self.text.break_up))
        own = [broken[slice(*found)] for found in self.text.find(broken)]
        everything = "".join(chain(_texts(messages), [rendered]))
        marks = self.text.marks(_unused_characters(everything))
        for mark in marks:
            try:
                origins = mark.read(self.render(_map_texts(messages, mark.write)), rendered)
            except TemplateRefusal:  # it may compare a text with another
                continue
            if origins is not None and own == [rendered[slice(*it)] for it in self.text.template_tokens(rendered, origins)]:
                return rendered, origins
        return broken, Origins()

    def ids(self, text: str) -> tuple[int, ...]:
        """Return the ids of a text as the tokenizer reads it, control tokens included."""
        with _ENCODING:
            return tuple(self.tokenizer(text, add_special_tokens=False)["input_ids"]) if text else ()

    def _encode_safely(self, text: str, control: Sequence[tuple[int, int]]) -> Iterator[int]:
        """Yield the ids of a text in which only the ranges `control` are control tokens."""
        if self._renamed is not None and self._renamed.nonce not in text:
            yield from self._renamed.encode(text, control)
            return
        end = 0
        for start, stop in control:
            yield from self._plain(text[end:start])
            yield cast(int, self.tokenizer.convert_tokens_to_ids(text[start:stop]))
            end = stop
        yield from self._plain(text[end:])

    @cached_property
    def _renamed(self) -> _RenamedTokenizer | None:
        """The tokenizer with its control tokens renamed; None where it cannot be copied."""
        backend = getattr(self.tokenizer, "backend_tokenizer", None)
        if not isinstance(backend, Tokenizer):
            return None
        try:
            return _RenamedTokenizer.of(backend, self.control, self.tokenizer.unk_token_id)
        except Exception:  # parts written in Python cannot be serialised, which tokenizers reports as a bare Exception
            return None

    def _plain(self, text: str) -> Iterator[int]:
        """Encode text without control tokens, piece by piece, for tokenizers that cannot be copied."""
        for piece in self.text.split(text):
            ids = self.tokenizer(piece, add_special_tokens=False, split_special_tokens=True)["input_ids"] if piece else []
            yield from _without_control(ids, self.control, self.tokenizer.unk_token_id)


@dataclass(frozen=True)
class _RenamedTokenizer:
    """A copy of a tokenizer whose control tokens have secret names, so that their usual names are ordinary text."""

    backend: Tokenizer
    nonce: str
    names: Mapping[str, str]
    original_ids: Mapping[int, int]
    control: Mapping[int, str]
    unknown: int | None

    @classmethod
    def of(cls, backend: Tokenizer, control: Mapping[int, str], unknown: int | None) -> _RenamedTokenizer:
        described = json.loads(backend.to_str())
        nonce, texts, original = secrets.token_hex(8), frozenset(control.values()), dict[str, int]()
        names = {text: f"<|{nonce}-{number}|>" for number, text in enumerate(sorted(texts))}
        for token in described["added_tokens"]:
            content = token["content"]
            token["content"] = names.get(content, content)
            original[token["content"]] = token["id"]
        described.update(truncation=None, padding=None, post_processor=None)
        copy = Tokenizer.from_str(json.dumps(described))
        return cls(copy, nonce, names, _ids_in(copy, original), control, unknown)

    def encode(self, text: str, control: Sequence[tuple[int, int]]) -> Iterator[int]:
        """Yield the original ids of a text in which only the ranges `control` are control tokens."""
        parts, end = [], 0
        for start, stop in control:
            parts += [text[end:start], self.names.get(text[start:stop], text[start:stop])]
            end = stop
        for token in self.backend.encode("".join([*parts, text[end:]]), add_special_tokens=False).ids:
            if token in self.original_ids:
                yield self.original_ids[token]
            else:
                yield from _without_control([token], self.control, self.unknown)


def _ids_in(copy: Tokenizer, original: Mapping[str, int]) -> dict[int, int]:
    """Return the original id of each added token by its id in the copy."""
    ids = copy.get_vocab(with_added_tokens=True)
    return {ids[text]: id for text, id in original.items()}


def _without_control(ids: Sequence[int], control: Mapping[int, str], unknown: int | None) -> Iterator[int]:
    """Yield ids; a control token that the tokenizer makes of plain text becomes the unknown token, or is dropped."""
    for token in ids:
        replaced = unknown if token in control else token
        if replaced is not None:
            yield replaced


def _texts(messages: Messages) -> Iterator[str]:
    return (value for message in messages for value in message.values() if isinstance(value, str))


def _map_texts(messages: Messages, change: Callable[[str], str]) -> list[dict[str, object]]:
    return [{key: change(value) if isinstance(value, str) else value for key, value in m.items()} for m in messages]


def _unused_characters(text: str) -> Iterator[str]:
    """Yield private-use characters that the text does not contain."""
    used = set(text)
    return (chr(code) for code in chain.from_iterable(range(*bounds) for bounds in _PRIVATE_USE) if chr(code) not in used)
