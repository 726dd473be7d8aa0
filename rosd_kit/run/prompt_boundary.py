"""Checks that template, engine, trainer and teacher agree on where the response begins.

One token more or less there (a space, a `<think>`, a second `<s>`) trains the student on a prompt that it will never see, and
nothing fails. So the prompts are compared id by id, and shown. Knows nothing of steps or recipes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

from rosd_kit.display.text import sanitize
from rosd_kit.errors import RunError
from rosd_kit.model.chat import Chat
from rosd_kit.model.packing import TokenSequence, build_layout
from rosd_kit.settings import ChatRole
from rosd_kit.types import Completion, DistillSample, GenerateRequest, Message

Ids = tuple[int, ...]
_BEFORE, _AFTER = 8, 6


def check_student(
    chat: Chat,
    messages: Sequence[Message],
    sample: DistillSample,
    exchanges: Sequence[tuple[GenerateRequest, Completion]],
    pad_id: int,
) -> dict[str, Ids]:
    """Return the student's prompt as template, engine and trainer read it.

    `exchanges` are the engine's requests and completions. Raises `RunError` that shows the first token at which two of them
    differ, or if no exchange belongs to this sample.
    """
    mine = [pair for pair in exchanges if pair[1].token_ids == sample.response_ids]
    if not mine:
        raise RunError("no completion of the engine has the tokens that would be trained on. Look at the rollout engine.")
    request, completion = next((pair for pair in mine if pair[0].prompt_ids == sample.prompt_ids), mine[0])
    layout = build_layout([TokenSequence(sample.prompt_ids, sample.response_ids)], pad_id=pad_id, mode="padded")
    read, start = tuple(layout.ids[0].tolist()), int(layout.state_indices[0]) + 1
    parties = {
        "the chat template": own_ids(chat, messages),
        "the engine, as asked": request.prompt_ids,
        "the engine, as it answers": completion.prompt_ids,
        "the trainer": read[:start],
    }
    first, *others = parties.items()
    for name, ids in others:
        _compare(chat, first, (name, ids))
    _compare(chat, ("the engine", completion.token_ids[:-1]), ("the trainer", read[start:]))
    return parties


def check_headers(chat: Chat, student: Ids, teacher: Ids) -> None:
    """Raise `RunError` unless both prompts end with the generation header that the chat template writes for their role."""
    roles: tuple[tuple[ChatRole, Ids], ...] = (("student", student), ("teacher", teacher))
    for name, ids in roles:
        text = chat.for_role(name).generation_header
        header = chat.decode(chat.tokenizer(text, add_special_tokens=False)["input_ids"]).strip()
        if not chat.decode(ids).rstrip().endswith(header):
            raise RunError(
                f"the {name}'s prompt does not end with the generation header {header!r} but with {_ends(chat, ids)!r}, so the "
                "response would not follow it as it follows the other's. Look at the context and the chat template."
            )


def own_ids(chat: Chat, messages: Sequence[Message]) -> Ids:
    """Return the ids that transformers itself encodes a chat to.

    transformers would let control tokens inside a text through; such chats are encoded by the kit, which keeps them out.
    """
    adapted = chat.adapt(messages)
    if chat.encoder.spells_control_tokens(adapted):
        return chat.encode(messages)
    plain: list[dict[str, Any]] = [dict(message) for message in adapted]  # transformers declares plain dictionaries
    ids = chat.tokenizer.apply_chat_template(
        plain, tokenize=True, add_generation_prompt=True, return_dict=False, **chat.encoder.options
    )
    return tuple(ids)


def side_by_side(chat: Chat, student: Ids, teacher: Ids, response: Ids) -> Table:
    """Return a table of the last tokens of both prompts and the first tokens of the response, with their ids."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("", "student", "teacher"):
        table.add_column(title, no_wrap=True)
    for place in range(-_BEFORE, 0):
        table.add_row(str(place), *(_token(chat, ids[place]) if len(ids) >= -place else "" for ids in (student, teacher)))
    table.add_section()
    for place, token in enumerate(response[:_AFTER], start=1):
        table.add_row(f"+{place}", *[_token(chat, token)] * 2)
    return table


def _compare(chat: Chat, one: tuple[str, Ids], other: tuple[str, Ids]) -> None:
    (name, ids), (other_name, other_ids) = one, other
    if ids == other_ids:
        return
    pairs = enumerate(zip(ids, other_ids, strict=False))
    place = next((place for place, (a, b) in pairs if a != b), min(len(ids), len(other_ids)))
    shown: Mapping[str, str] = {
        who: _token(chat, listed[place]) if place < len(listed) else "the end"
        for who, listed in ((name, ids), (other_name, other_ids))
    }
    raise RunError(
        f"the student's prompt differs between sampling and training: token {place} is {shown[name]} for {name} "
        f"({len(ids)} tokens) and {shown[other_name]} for {other_name} ({len(other_ids)} tokens). "
        "Check the chat template, its options (model.chat_template_kwargs, model.chat) and the rollout engine."
    )


def _token(chat: Chat, token: int) -> str:
    return f"{token} {sanitize(repr(chat.decode([token])))}"


def _ends(chat: Chat, ids: Sequence[int]) -> str:
    return chat.decode(ids[-_BEFORE:])
