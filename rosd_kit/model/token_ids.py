"""Compares the ids of a model with those of its tokenizer: what ends a response, and which ids have a row or a token.

Knows neither chat templates nor sampling.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, cast

from rosd_kit.errors import RunError
from rosd_kit.model.lora import unwrap_lora
from rosd_kit.text.specials import control_tokens

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


_SHOWN = 3


def configured_end_ids(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> dict[str, list[int]]:
    """Return the end ids that each source names, by its name.

    Raises `RunError` for one that is not an id of the model.
    """
    size = embedding_rows(model)
    config = model.config.get_text_config() if hasattr(model.config, "get_text_config") else model.config
    named = {
        "generation_config.json": getattr(model.generation_config, "eos_token_id", None),
        "config.json": getattr(config, "eos_token_id", None),
        "the tokenizer": tokenizer.eos_token_id,
    }
    return {source: _checked(source, value, size) for source, value in named.items()}


def embedding_rows(model: nn.Module) -> int:
    """Return the number of token ids that a model knows, one for each row of its input embedding."""
    weight = cast("Tensor", unwrap_lora(model).get_input_embeddings().weight)
    return int(weight.shape[0])


def _checked(source: str, value: object, size: int) -> list[int]:
    ids: list[int] = []
    for one in value if isinstance(value, list | tuple | set) else [] if value is None else [value]:
        if not isinstance(one, int) or isinstance(one, bool) or not 0 <= one < size:
            raise RunError(
                f"model.path: eos_token_id of {source} is {one!r}, but the model has the ids 0 to {size - 1}. Correct it: "
                "the id of the token that ends a response, or a list of them."
            )
        ids.append(one)
    return ids


def check_sizes(tokenizer: PreTrainedTokenizerBase, size: int, written: Mapping[int, str], path: str) -> str | None:
    """Return a sentence about tokens beyond the model's `size` ids that no prompt can hold, if there are any.

    `written` are the control tokens that the chat template may write. Raises `RunError` for tokens that a prompt may hold.
    """
    beyond = {id: token for token, id in tokenizer.get_vocab().items() if id >= size}
    if not beyond:
        return None
    special = control_tokens(tokenizer)
    reachable = sorted(id for id in beyond if id not in special or id in written)
    names = ", ".join(f"{beyond[id]!r} ({id})" for id in (reachable or sorted(beyond))[:_SHOWN])
    if reachable:
        raise RunError(
            f"model.path: the tokenizer of {path!r} has ids up to {max(beyond)}, but the model's embedding has {size} rows, so "
            f"{len(reachable)} tokens that prompts may hold have none: {names}. Use the tokenizer that the model was trained "
            "with, or resize the embedding (resize_token_embeddings) and save the model."
        )
    return f"{len(beyond)} special tokens have no row in the model's embedding, and never occur in prompts: {names}."
