"""Turns chat messages into token ids; a message's text can never pose as the template's control tokens.

Works around what a template lacks (a system role), counts those cases, and notes what a user should know about the template.
Does not know models or tasks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from threading import Lock
from typing import Any

from jinja2 import Environment, TemplateError, meta

from rosd_kit.errors import RunError, shortened
from rosd_kit.settings import ModelSettings
from rosd_kit.text.specials import control_tokens
from rosd_kit.text.validity import why_no_text
from rosd_kit.types import Message

#: Whether a tokenizer splits special tokens is state inside the tokenizer, which the reflection threads share.
_ENCODING = Lock()
#: Contents that no message contains, to find where a template puts them.
_SYSTEM, _USER = "\ue000system\ue001", "\ue000user\ue001"


class Chat:
    """A tokenizer's chat template with the recipe's options.

    `merged_count` counts the system messages that were merged into the next message, because the template has no system role.
    """

    def __init__(self, tokenizer: Any, settings: ModelSettings) -> None:
        self.tokenizer = tokenizer
        self.settings = settings
        self.merged_count = 0

    def encode(self, messages: Sequence[Message]) -> tuple[int, ...]:
        """Return the ids of a chat with the generation header.

        Raises `RunError` when there is no chat template or it refuses these messages.
        """
        messages = self.adapt(messages)
        for message in messages:
            if fault := why_no_text(message["content"]):
                raise RunError(
                    f"a {message['role']} message {fault}: {shortened(message['content'])}. Mend the data or the plugin."
                )
        try:
            return encode_chat(self.tokenizer, messages, self.settings.chat_template_kwargs)
        except TemplateRefusal as error:
            roles = ", ".join(message["role"] for message in messages)
            raise RunError(
                f"model.path: the chat template of {self.settings.path!r} refuses messages with the roles {roles}: {error}. "
                "Set model.chat_template to use another template."
            ) from error

    def adapt(self, messages: Sequence[Message]) -> list[Message]:
        """Return the messages in a form that the template accepts.

        Without a system role, system messages are put in front of the next message. Raises `RunError` when
        `model.system_role` forbids that.
        """
        if all(message["role"] != "system" for message in messages) or self.has_system_role:
            return list(messages)
        if self.settings.system_role == "refuse":
            raise RunError(
                f"model.system_role: the chat template of {self.settings.path!r} has no system role, and the task has system "
                "messages. Use model.system_role=merge to put them in front of the user's, or another model.chat_template."
            )
        adapted: list[Message] = []
        pending: list[str] = []
        for message in messages:
            if message["role"] == "system":
                pending.append(message["content"])
                self.merged_count += 1
            else:
                adapted.append(Message(role=message["role"], content="\n\n".join([*pending, message["content"]])))
                pending = []
        return [*adapted, *([Message(role="user", content="\n\n".join(pending))] if pending else [])]

    @cached_property
    def template(self) -> str:
        """The template's source; empty without a tokenizer. Raises `RunError` when the tokenizer has none."""
        if self.tokenizer is None:
            return ""
        try:
            return str(self.tokenizer.get_chat_template())
        except ValueError as error:
            raise RunError(
                f"model.path: the tokenizer of {self.settings.path!r} has no chat template, as is usual for base models. Use "
                "an instruction-tuned model, or name a Jinja file in model.chat_template."
            ) from error

    @cached_property
    def has_system_role(self) -> bool:
        """Whether the template renders system messages."""
        try:
            messages = [Message(role="system", content=_SYSTEM), Message(role="user", content=_USER)]
            return _SYSTEM in _render(self.tokenizer, messages, self.settings.chat_template_kwargs)
        except TemplateRefusal:
            return False

    @cached_property
    def generation_header(self) -> str:
        """The text that the template puts after the last message, for the response to follow."""
        rendered = _render(self.tokenizer, [Message(role="user", content=_USER)], self.settings.chat_template_kwargs)
        return rendered.rpartition(_USER)[2]

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of some ids, control tokens included."""
        return str(self.tokenizer.decode(list(ids)))

    def notes(self) -> list[str]:
        """Return what is unusual about the template, one sentence each."""
        notes = []
        variables = meta.find_undeclared_variables(_environment().parse(self.template))
        for option in self.settings.chat_template_kwargs:
            if option not in variables:
                notes.append(f"model.chat_template_kwargs.{option}: the chat template does not read it.")
        if not self.has_system_role:
            notes.append("the chat template has no system role; system messages are put before the user's (model.system_role).")
        if "strftime_now" in variables and "date_string" not in self.settings.chat_template_kwargs:
            notes.append(
                "the chat template prints the date, so prompts change from day to day; if it reads date_string, set "
                "model.chat_template_kwargs.date_string."
            )
        ids = self.encode([Message(role="user", content="?")])
        bos = self.tokenizer.bos_token_id
        if bos is not None and self.tokenizer("?")["input_ids"][:1] == [bos] != list(ids[:1]):
            notes.append(
                f"this tokenizer starts plain texts with {self.tokenizer.bos_token}, "
                "but its chat template does not start chats with it."
            )
        if bos is not None and ids[:2] == (bos, bos):
            notes.append(f"this template starts chats with {self.tokenizer.bos_token} twice.")
        return notes


def encode_chat(tokenizer: Any, messages: Sequence[Message], template_options: Mapping[str, Any]) -> tuple[int, ...]:
    """Return the ids of a chat with the generation header.

    Normally this encodes the rendered chat template as a whole. When a message contains the text of a special token, template
    and contents are encoded separately, so that no content can produce a special id.
    """
    with _ENCODING:
        return _encode(tokenizer, messages, template_options)


def contains_control_tokens(tokenizer: Any, messages: Sequence[Message]) -> bool:
    """Return whether any message contains text that the tokenizer takes for a control token."""
    return any(special in message["content"] for special in control_tokens(tokenizer).values() for message in messages)


def _encode(tokenizer: Any, messages: Sequence[Message], template_options: Mapping[str, Any]) -> tuple[int, ...]:
    if not contains_control_tokens(tokenizer, messages):
        return _ids(tokenizer, _render(tokenizer, messages, template_options))
    marks = [f"\ue000{i}\ue001" for i in range(len(messages))]
    marked = [{**message, "content": mark} for message, mark in zip(messages, marks, strict=True)]
    rest = _render(tokenizer, marked, template_options)
    ids: list[int] = []
    for message, mark in zip(messages, marks, strict=True):
        before, separator, rest = rest.partition(mark)
        ids.extend(_ids(tokenizer, before))
        if separator:
            ids.extend(_plain_ids(tokenizer, message["content"]))
    return (*ids, *_ids(tokenizer, rest))


class TemplateRefusal(Exception):
    """The chat template raised an error; what a tokenizer raises afterwards is another matter."""


def _render(tokenizer: Any, messages: Sequence[Any], options: Mapping[str, Any]) -> str:
    try:
        return str(tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=True, **options))
    except (TemplateError, TypeError) as error:  # templates also compute, for example with roles that they do not know
        raise TemplateRefusal(str(error)) from error


def _ids(tokenizer: Any, text: str) -> tuple[int, ...]:
    return tuple(tokenizer(text, add_special_tokens=False)["input_ids"]) if text else ()


def _plain_ids(tokenizer: Any, text: str) -> list[int]:
    """Encode text in which special tokens mean nothing; one that remains becomes the unknown token, or is dropped."""
    ids = tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    special, unknown = control_tokens(tokenizer), tokenizer.unk_token_id
    kept = [unknown if i in special and i != unknown else i for i in ids]
    return [i for i in kept if i is not None]


def _environment() -> Environment:
    """Return a Jinja environment that can parse transformers' templates; nothing is executed in it."""
    return Environment(extensions=["jinja2.ext.loopcontrols", "jinja2.ext.do"])
