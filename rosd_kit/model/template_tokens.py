"""Finds which added tokens a chat template writes: in its text, in its strings, or put together from a role's name."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from jinja2 import nodes
from transformers.utils.chat_template_utils import _compile_jinja_template

from rosd_kit.text.specials import control_tokens

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


_ROLES = ("system", "user", "assistant", "tool")


def parse_template(template: str) -> nodes.Template:
    """Return a template's syntax tree, parsed as transformers parses it. Raises `TemplateSyntaxError`."""
    tree: nodes.Template = _compile_jinja_template(template).environment.parse(template)
    return tree


def template_control_tokens(tokenizer: PreTrainedTokenizerBase, options: Mapping[str, object]) -> dict[int, str]:
    """Return by id the special tokens, and the other added tokens that the chat template writes."""
    control = control_tokens(tokenizer)
    if all(id in control for id in tokenizer.added_tokens_decoder):
        return control
    return control | written_tokens(tokenizer, options)


def written_tokens(tokenizer: PreTrainedTokenizerBase, options: Mapping[str, object]) -> dict[int, str]:
    """Return by id the added tokens that the chat template may write, special or not."""
    written = _literals(tokenizer.get_chat_template()) + "\0" + _rendered(tokenizer, options)
    added = {id: str(token) for id, token in tokenizer.added_tokens_decoder.items()}
    # Templates hold added tokens of white space, like Gemma's line ends, as ordinary text.
    return {id: text for id, text in added.items() if text in written and text.strip()}


@lru_cache(maxsize=16)
def _literals(template: str) -> str:
    tree = parse_template(template)
    texts = {node.data for node in tree.find_all(nodes.TemplateData)}
    texts |= {node.value for node in tree.find_all(nodes.Const) if isinstance(node.value, str)}
    return "\0".join(sorted(texts))


def _rendered(tokenizer: PreTrainedTokenizerBase, options: Mapping[str, Any]) -> str:  # keyword arguments
    """Return small chats with each role, for templates that put control tokens together, as in '<|' + role + '|>'."""
    texts = []
    for role in _ROLES:
        roles = dict.fromkeys(["user", role, "assistant"] if role != "system" else ["system", "user", "assistant"])
        chat = [{"role": one, "content": "1"} for one in roles]
        try:
            texts.append(str(tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True, **options)))
        except Exception:  # a template may refuse a role, with whatever error its expressions raise
            continue
    return "\0".join(texts)
