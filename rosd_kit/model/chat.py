"""Turns chat messages into token ids; a message's text can never pose as the template's control tokens.

Works around what a template lacks (a system role), counts those cases, and notes what a user should know about the template.
Does not know models or tasks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, get_args

from jinja2 import meta

from rosd_kit.errors import RunError, shortened
from rosd_kit.model.chat_encoding import ChatEncoder, TemplateRefusal
from rosd_kit.model.template_tokens import parse_template, written_tokens
from rosd_kit.model.unknown_tokens import UnreadText
from rosd_kit.settings import ChatRole, ModelSettings
from rosd_kit.text.thinking import Pairs, opens_thinking
from rosd_kit.text.validity import why_no_text
from rosd_kit.types import Message

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


#: Two contents, to see what a template makes of the difference.
_CONTENTS = ("seven apples", "nine pears")
#: Roles that templates know under one name or another; a misspelt one would become part of the prompt, or vanish from it.
_ROLES = ("system", "developer", "user", "assistant", "tool")


class Chat:
    """A tokenizer's chat template with the recipe's options.

    `options` are merged over `model.chat_template_kwargs`. `vocabulary` is how many ids the model has, where that is known.
    `merged_count` counts the system messages that were merged into the next message, because the template has no system role.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        settings: ModelSettings,
        options: Mapping[str, object] | None = None,
        *,
        vocabulary: int | None = None,
    ) -> None:
        self.tokenizer = tokenizer
        self.settings = settings
        self.vocabulary = vocabulary
        self.merged_count = 0
        self._prompts = UnreadText()
        self.encoder = ChatEncoder(tokenizer, {**settings.chat_template_kwargs, **(options or {})})
        self._variants: dict[str, Chat] = {}

    def with_options(self, options: Mapping[str, object]) -> Chat:
        """Return this chat with other template options, merged over `model.chat_template_kwargs`."""
        if not options:
            return self
        key = repr(sorted(options.items()))
        if key not in self._variants:
            self._variants[key] = Chat(self.tokenizer, self.settings, options, vocabulary=self.vocabulary)
        return self._variants[key]

    def for_role(self, role: ChatRole) -> Chat:
        """Return the chat with the template options of one kind of prompt (`model.chat`)."""
        return self.with_options(self.settings.chat.of(role))

    def of_all_roles(self) -> list[Chat]:
        """Return each of the roles' chats once, in the order of the roles."""
        return list({id(chat): chat for chat in map(self.for_role, get_args(ChatRole))}.values())

    def take_merged_count(self) -> int:
        """Return and reset `merged_count`, that of chats with other options included."""
        merged, self.merged_count = self.merged_count, 0
        return merged + sum(variant.take_merged_count() for variant in self._variants.values())

    def encode(self, messages: Sequence[Message]) -> tuple[int, ...]:
        """Return the ids of a chat with the generation header.

        Raises `RunError` when there is no chat template or it refuses these messages.
        """
        messages = self.adapt(messages)
        for message in messages:
            if not self._knows_role(message["role"]):
                raise RunError(
                    f"a message has the role {shortened(message['role'])}, which is none of {', '.join(_ROLES)}, and which the "
                    f"chat template of {self.settings.path!r} does not mention. Mend the data or the plugin."
                )
            if fault := why_no_text(message["content"]):
                raise RunError(
                    f"a {message['role']} message {fault}: {shortened(message['content'])}. Mend the data or the plugin."
                )
        try:
            ids = self.encoder.encode(messages)
        except TemplateRefusal as error:
            roles = ", ".join(message["role"] for message in messages)
            raise RunError(
                f"model.path: the chat template of {self.settings.path!r} refuses messages with the roles {roles}: {error}. "
                "Set model.chat_template to use another template."
            ) from error
        if self.vocabulary is not None and max(ids, default=0) >= self.vocabulary:
            token = self.tokenizer.convert_ids_to_tokens(max(ids))
            raise RunError(
                f"model.path: a prompt holds the token {token!r} with the id {max(ids)}, but the model of "
                f"{self.settings.path!r} has {self.vocabulary} ids. Use the tokenizer that the model was trained with."
            )
        if self._unknown_id is not None:
            unknown = self._prompts.unknown + ids.count(self._unknown_id)
            self._prompts = UnreadText(tokens=self._prompts.tokens + len(ids), unknown=unknown)
        return ids

    def _knows_role(self, role: str) -> bool:
        """Return whether a role is a usual one, or one that the template's text names."""
        template = str(getattr(self.tokenizer, "chat_template", None))
        return role in _ROLES or f"'{role}'" in template or f'"{role}"' in template

    @cached_property
    def _unknown_id(self) -> int | None:
        """The id of the unknown token; None without one, and where the template itself writes it."""
        unknown = getattr(self.tokenizer, "unk_token_id", None)
        return None if unknown in written_tokens(self.tokenizer, self.encoder.options) else unknown

    def unread_prompts(self) -> UnreadText:
        """Return how many tokens of all prompts so far are unknown, those of chats with other options included."""
        every = [self._prompts, *(variant.unread_prompts() for variant in self._variants.values())]
        return UnreadText(tokens=sum(one.tokens for one in every), unknown=sum(one.unknown for one in every))

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
        user = Message(role="user", content=_CONTENTS[0])
        try:
            one, other = (self.encoder.render([Message(role="system", content=text), user]) for text in _CONTENTS)
        except TemplateRefusal:
            return False
        return one != other

    @cached_property
    def generation_header(self) -> str:
        """The text that the template puts after the last message, for the response to follow."""
        one, other = (self.encoder.render([Message(role="user", content=text)]) for text in ("seven", "nine 9"))
        pairs = zip(reversed(one), reversed(other), strict=False)
        same = next((place for place, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))
        return one[len(one) - same :]

    def roles_in_thinking(self, pairs: Pairs = ()) -> frozenset[ChatRole]:
        """Return the roles whose prompts end inside a thinking block; `pairs` are more marks, as in `strip_thinking`."""
        return frozenset(role for role in get_args(ChatRole) if self.for_role(role)._opens_thinking(pairs))

    def _opens_thinking(self, pairs: Pairs) -> bool:
        try:
            return opens_thinking(self.generation_header, pairs)
        except TemplateRefusal:  # said with the roles when a task's messages are refused
            return False

    @cached_property
    def turn_end(self) -> int | None:
        """The id of the token that the template writes after an assistant's message; None if it writes another text there."""
        ids = self.encoder.ids(self._turn_end_text)
        added = self.tokenizer.added_tokens_decoder
        return ids[0] if ids and (ids[0] in added or ids[0] == self.tokenizer.eos_token_id) else None

    @cached_property
    def _turn_end_text(self) -> str:
        said = "eleven"
        turn = [Message(role="user", content=_CONTENTS[0]), Message(role="assistant", content=said)]
        try:
            return self.encoder.render(turn, header=False).rpartition(said)[2].strip()
        except TemplateRefusal:
            return ""

    def check(self) -> None:
        """Raise `RunError` if the template ignores the user's message, or renders the same chat differently each time."""
        where = f"model.path: the chat template of {self.settings.path!r}"
        system = Message(role="system", content="Be brief.")
        for head in ([], [system] if self.has_system_role else []):
            try:
                chats = [[*head, Message(role="user", content=text)] for text in _CONTENTS]
                one, other = map(self.encoder.render, chats)
                again = {self.encoder.render(chats[0]) for _ in range(16)}
            except TemplateRefusal:  # said with the roles when a task's messages are refused
                continue
            if again != {one}:
                raise RunError(f"{where} renders the same chat differently each time. Set model.chat_template to another.")
            if one == other:
                raise RunError(f"{where} ignores the user's message. Set model.chat_template to another template.")

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of some ids, control tokens included."""
        return str(self.tokenizer.decode(list(ids)))

    def notes(self) -> list[str]:
        """Return what is unusual about the template, one sentence each."""
        notes = []
        variables = meta.find_undeclared_variables(parse_template(self.template))
        for option in self.encoder.options:
            if option not in variables:
                notes.append(f"model.chat_template_kwargs.{option}: the chat template does not read it.")
        for role in get_args(ChatRole):
            unread = [option for option in self.settings.chat.of(role) if option not in variables]
            notes += [f"model.chat.{role}.{option}: the chat template does not read it." for option in unread]
        if not self.has_system_role:
            notes.append("the chat template has no system role; system messages are put before the user's (model.system_role).")
        if "strftime_now" in self.template and "date_string" not in self.encoder.options:
            notes.append(
                "the chat template prints the date, so prompts change from day to day; if it reads date_string, set "
                "model.chat_template_kwargs.date_string."
            )
        if self.turn_end is None and self._turn_end_text:
            notes.append(
                f"the chat template ends a turn with {self._turn_end_text!r}, which is no single token of this tokenizer, so "
                "responses do not end there."
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


def encode_chat(
    tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], template_options: Mapping[str, object]
) -> tuple[int, ...]:
    """Return the ids of a chat with the generation header.

    They are those of transformers, except that a control token which a message spells stays text.
    """
    return ChatEncoder(tokenizer, template_options).encode(messages)


def contains_control_tokens(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message]) -> bool:
    """Return whether any message spells a control token of the tokenizer or of its template, wholly or at its ends."""
    return ChatEncoder(tokenizer, {}).spells_control_tokens(messages)
