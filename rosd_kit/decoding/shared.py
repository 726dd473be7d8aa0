"""Rows that share the keys and values of their prompts, in a cache that is allocated ahead; rows come and go at any time.

If most prompts are alone, each row holds its prompt itself, which saves the second product of attention. Works for models whose
layers all attend, to everything or in a window, through transformers' attention interface; `Unsupported` names what does not.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeAlias

import torch

from rosd_kit.decoding.attention import Sharing, Step, decode_with
from rosd_kit.decoding.direct import DirectLayers, runs_directly
from rosd_kit.decoding.key_values import Store, moved
from rosd_kit.decoding.prefill import Prefill, distinct, prefill
from rosd_kit.decoding.rows import Ids, close_gaps
from rosd_kit.decoding.tree_prefill import prefill_tree, tree_pays
from rosd_kit.model.split import split_model

if TYPE_CHECKING:
    from torch import Tensor, nn

    from rosd_kit.model.tree_attention import KeysAndValues

#: How prompts run: padded to one length, as a prefix tree, or in the cheaper of the two ways.
PrefillMode: TypeAlias = Literal["padded", "tree", "cheaper"]

_ATTENDING = {"full_attention", "sliding_attention"}


class Unsupported(RuntimeError):
    """The model's layers need more than keys and values."""


class SharedRows:
    """Rows with a prompt from the shared store (`sharing`), or with their own. See `Rows`.

    With `direct`, `DirectLayers` stand for the model's own where they can. `prefill` other than "padded" is for models that
    take the layout `shared`.
    """

    extends: ClassVar[bool] = True

    def __init__(
        self,
        model: nn.Module,
        pad_id: int,
        device: torch.device,
        *,
        sharing: bool,
        direct: bool = False,
        prefill: PrefillMode = "padded",
    ) -> None:
        self.model, self.pad_id, self.device = model, pad_id, device
        self._parts = parts = split_model(model)
        self._prefill_mode = prefill
        self._direct = DirectLayers(parts) if direct and runs_directly(model, parts) else None
        self._config: Any = parts.backbone.config  # of a class that differs by architecture
        self._layer_types = list(getattr(self._config, "layer_types", None) or [])
        if not set(self._layer_types) <= _ATTENDING:
            raise Unsupported(f"layers of type {', '.join(sorted(set(self._layer_types) - _ATTENDING))}")
        self._sharing = sharing
        self._prompts: dict[int, Store] = {}
        self._rows: dict[int, Store] = {}
        self._prompt_lengths: list[int] = []  # by prompt of the store
        self._prompt_of: list[int] = []  # by row; the index of its prompt in the store
        self._lengths: list[int] = []  # by row; tokens before the own ones
        self._own: list[int] = []  # by row; tokens in the row's store
        self._arrangement: Sharing | None
        self._prompt_mask: Tensor | None
        self._own_lengths: Tensor
        self._arrange()

    def add(self, prompts: Sequence[Ids]) -> Tensor:
        texts, numbers = distinct(prompts)
        layers, logits = self._prefill(texts)
        index = torch.tensor(numbers, device=self.device)
        for layer, (keys, values) in enumerate(layers):
            if self._sharing:
                self._prompts.setdefault(layer, Store()).append(keys, values)
                nothing = keys[index, :, :0], values[index, :, :0]
                self._rows.setdefault(layer, Store()).append(*nothing)
            else:
                self._rows.setdefault(layer, Store()).append(keys[index], values[index])
        if self._sharing:
            self._prompt_of += [len(self._prompt_lengths) + number for number in numbers]
            self._prompt_lengths += [len(text) for text in texts]
        self._lengths += [len(prompt) if self._sharing else 0 for prompt in prompts]
        self._own += [0 if self._sharing else len(prompt) for prompt in prompts]
        self._arrange()
        return logits[index]

    def _prefill(self, prompts: Sequence[Ids]) -> tuple[list[KeysAndValues], Tensor]:
        from transformers import DynamicCache

        mode = self._prefill_mode
        if mode == "tree" or (mode == "cheaper" and tree_pays(self._parts, prompts, self.device)):
            return prefill_tree(self._parts, prompts, self.device)
        # Without the configuration every layer keeps all keys, also those that a window will hide.
        done = prefill(self.model, prompts, DynamicCache(), self.pad_id, self.device)
        return _without_padding(done), done.logits

    def keep(self, order: Sequence[int]) -> None:
        _move(self._rows, order, self.device)
        self._lengths = [self._lengths[old] for old in order]
        self._own = [self._own[old] for old in order]
        if self._sharing:
            self._prompt_of = [self._prompt_of[old] for old in order]
            alive = set(self._prompt_of)
            prompts = close_gaps([number in alive for number in range(len(self._prompt_lengths))])
            _move(self._prompts, prompts, self.device)
            number_of = {old: new for new, old in enumerate(prompts)}
            self._prompt_lengths = [self._prompt_lengths[old] for old in prompts]
            self._prompt_of = [number_of[old] for old in self._prompt_of]
        self._arrange()

    def forward(self, tokens: Tensor) -> Tensor:
        own = max(self._own) + 1
        for store in self._rows.values():
            store.reserve(len(tokens), own)
        step = Step(
            prompts=self._prompts,
            rows=self._rows,
            sharing=self._arrangement,
            index=self._index,
            prompt_lengths=self._before,
            own_lengths=self._own_lengths,
            prompt_tokens=max(self._prompt_lengths, default=0),
            tokens=own,
            even=min(self._own) == own - 1,
            prompt_mask=self._prompt_mask,
            longest=max(a + b for a, b in zip(self._lengths, self._own, strict=True)) + 1,
        )
        position = (self._before + self._own_lengths).clamp(max=self._last_position)
        logits = self._logits(step, tokens, position) if self._direct is None else self._direct.logits(step, tokens, position)
        self._own_lengths = self._own_lengths + 1
        self._own = [count + 1 for count in self._own]
        return logits

    def _logits(self, step: Step, tokens: Tensor, position: Tensor) -> Tensor:
        with decode_with(self._config, step):
            out = self.model(input_ids=tokens[:, None], position_ids=position[:, None], use_cache=False)
        self._check(step)
        logits: Tensor = out.logits[:, -1]
        return logits

    @property
    def _last_position(self) -> int:
        # Rows that have ended may stay in the batch for a few tokens, past the model's last position.
        return int(getattr(self._config, "max_position_embeddings", None) or 1 << 30) - 1

    def _check(self, step: Step) -> None:
        """Raise `Unsupported` unless every layer attended, and those that have a window said so."""
        if step.windows.keys() != self._rows.keys():
            raise Unsupported("layers that do not attend through transformers' interface")
        for layer, kind in enumerate(self._layer_types):
            if kind == "sliding_attention" and step.windows.get(layer) is None:
                raise Unsupported("windows that only masks know")

    def _arrange(self) -> None:
        """Put on the device what does not change from token to token."""
        self._index = torch.arange(len(self._own), device=self.device)
        self._before = torch.tensor(self._lengths, dtype=torch.long, device=self.device)
        self._own_lengths = torch.tensor(self._own, dtype=torch.long, device=self.device)
        shares = self._sharing and bool(self._own)
        self._arrangement = Sharing.of(self._prompt_of, len(self._prompt_lengths), self.device) if shares else None
        self._prompt_mask = self._padding() if shares else None

    def _padding(self) -> Tensor | None:
        """Return where rows have no prompt token, `[rows, longest prompt]`, or None if all prompts are of one length."""
        longest = max(self._prompt_lengths)
        if min(self._prompt_lengths) == longest:
            return None
        lengths = torch.tensor([self._prompt_lengths[prompt] for prompt in self._prompt_of], device=self.device)
        return torch.arange(longest, device=self.device) >= lengths[:, None]


def _without_padding(done: Prefill) -> list[tuple[Tensor, Tensor]]:
    """Return keys and values by layer, `[prompts, groups, length, size]`, with the padding moved from the left to the right."""
    layers: list[Any] = list(done.cache.layers)  # only some kinds have keys and values
    if any(getattr(layer, "keys", None) is None or layer.keys.dim() != 4 for layer in layers):
        raise Unsupported("layers that keep more than keys and values")
    padding = done.mask.shape[1] - done.mask.sum(1)
    if not bool(padding.any()):
        return [(layer.keys, layer.values) for layer in layers]
    length = done.mask.shape[1]
    source = (torch.arange(length, device=padding.device) + padding[:, None]).clamp(max=length - 1)

    def shifted(states: Tensor) -> Tensor:
        return states.gather(2, source[:, None, :, None].expand(-1, states.shape[1], -1, states.shape[3]))

    return [(shifted(layer.keys), shifted(layer.values)) for layer in layers]


def _move(stores: dict[int, Store], order: Sequence[int], device: torch.device) -> None:
    sources, targets = (torch.tensor(rows, dtype=torch.long, device=device) for rows in moved(order))
    for store in stores.values():
        store.move(sources, targets, len(order))
