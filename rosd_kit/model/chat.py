"""Chat messages to token ids, with no way for a message's text to pose as the template's control tokens.

What a template does not do by itself (a system role) is made up for and counted; what a user should know of it is told.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from threading import Lock
from typing import Any

from jinja2 import Environment, TemplateError, meta

from rosd_kit.errors import RunError
from rosd_kit.settings import ModelSettings
from rosd_kit.text.specials import control_tokens
from rosd_kit.types import Message

#: Whether special tokens mean anything is a state of the tokenizer, which threads share that reflect on different groups.
_ENCODING = Lock()
_SYSTEM, _USER = "\ue000system\ue001", "\ue000user\ue001"


class Chat:
    """A tokenizer's chat template under the options of a recipe. `merged` counts the system texts that had no role."""

    def __init__(self, tokenizer: Any, settings: ModelSettings) -> None:
        self.tokenizer = tokenizer
        self.settings = settings
        self.merged = 0

    def encode(self, messages: Sequence[Message]) -> tuple[int, ...]:
        """Return the ids of a chat with the generation header.

        Raises `RunError` when there is no chat template, or it does not take these messages.
        """
        messages = self.adapted(messages)
        try:
            return encode_chat(self.tokenizer, messages, self.settings.chat_template_kwargs)
        except (TemplateError, TypeError) as error:
            roles = ", ".join(message["role"] for message in messages)
            raise RunError(
                f"model.path: the chat template of {self.settings.path!r} refuses messages of the roles {roles}: {error}. "
                "Another template can be given by model.chat_template."
            ) from error

    def adapted(self, messages: Sequence[Message]) -> list[Message]:
        """Return the messages as the template takes them: without a system role, system texts begin the next message."""
        if all(message["role"] != "system" for message in messages) or self.takes_system:
            return list(messages)
        if self.settings.system_role == "refuse":
            raise RunError(
                f"model.system_role: the chat template of {self.settings.path!r} has no system role and the task has system "
                "texts. Use model.system_role=merge to put them before the user's, or another model.chat_template."
            )
        found: list[Message] = []
        waiting: list[str] = []
        for message in messages:
            if message["role"] == "system":
                waiting.append(message["content"])
                self.merged += 1
            else:
                found.append(Message(role=message["role"], content="\n\n".join([*waiting, message["content"]])))
                waiting = []
        return [*found, *([Message(role="user", content="\n\n".join(waiting))] if waiting else [])]

    @cached_property
    def template(self) -> str:
        """The template's text; empty without a tokenizer. Raises `RunError` when the tokenizer has none."""
        if self.tokenizer is None:
            return ""
        try:
            return str(self.tokenizer.get_chat_template())
        except ValueError as error:
            raise RunError(
                f"model.path: the tokenizer of {self.settings.path!r} has no chat template; base models have none. Use an "
                "instruction-tuned model, or name a Jinja file in model.chat_template."
            ) from error

    @cached_property
    def takes_system(self) -> bool:
        """Whether a system text comes out of the template."""
        try:
            asked = [Message(role="system", content=_SYSTEM), Message(role="user", content=_USER)]
            return _SYSTEM in _render(self.tokenizer, asked, self.settings.chat_template_kwargs)
        except (TemplateError, TypeError):
            return False

    @cached_property
    def header(self) -> str:
        """The text that the template puts behind the last message, for the response to follow."""
        rendered = _render(self.tokenizer, [Message(role="user", content=_USER)], self.settings.chat_template_kwargs)
        return rendered.rpartition(_USER)[2]

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of some ids, control tokens included."""
        return str(self.tokenizer.decode(list(ids)))

    def notes(self) -> list[str]:
        """Return what is unusual about the template, one sentence each."""
        found = []
        known = meta.find_undeclared_variables(_environment().parse(self.template))
        for option in self.settings.chat_template_kwargs:
            if option not in known:
                found.append(f"model.chat_template_kwargs.{option}: the chat template does not read it.")
        if not self.takes_system:
            found.append("the chat template has no system role; system texts are put before the user's (model.system_role).")
        if "strftime_now" in known and "date_string" not in self.settings.chat_template_kwargs:
            found.append(
                "the chat template prints the date, so prompts change from day to day; if it reads date_string, set "
                "model.chat_template_kwargs.date_string."
            )
        ids = self.encode([Message(role="user", content="?")])
        bos = self.tokenizer.bos_token_id
        if bos is not None and self.tokenizer("?")["input_ids"][:1] == [bos] != list(ids[:1]):
            found.append(f"texts of this tokenizer begin with {self.tokenizer.bos_token}, chats by its template do not.")
        if bos is not None and ids[:2] == (bos, bos):
            found.append(f"chats by this template begin with {self.tokenizer.bos_token} twice.")
        return found


def encode_chat(tokenizer: Any, messages: Sequence[Message], template_options: Mapping[str, Any]) -> tuple[int, ...]:
    """Return the ids of a chat with the generation header.

    Where no message holds a special-token string, this is the tokenizer's own chat template, encoded in one piece. Where one
    does, template and contents are encoded apart, and no special id can come out of a content.
    """
    with _ENCODING:
        return _encode(tokenizer, messages, template_options)


def is_hostile(tokenizer: Any, messages: Sequence[Message]) -> bool:
    """Return whether some text holds what the tokenizer takes for a control token."""
    return any(special in message["content"] for special in control_tokens(tokenizer).values() for message in messages)


def _encode(tokenizer: Any, messages: Sequence[Message], template_options: Mapping[str, Any]) -> tuple[int, ...]:
    if not is_hostile(tokenizer, messages):
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


def _environment() -> Environment:
    """Return a Jinja that reads what transformers' templates may hold; nothing is run in it."""
    return Environment(extensions=["jinja2.ext.loopcontrols", "jinja2.ext.do"])
