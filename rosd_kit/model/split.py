"""Splits a causal language model into the backbone, which makes hidden states, and the head, which makes logits.

    layout --backbone--> hidden states --head--> raw output --scale, soft-cap--> logits

The split lets the head run on selected tokens only. This module also knows which layouts a model can take, by its configuration
and by what `split_check.py` found. Does not know samples or losses.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import TYPE_CHECKING, Literal, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from rosd_kit.errors import RunError
from rosd_kit.model.flex_tree import Engine
from rosd_kit.model.lora import unwrap_lora
from rosd_kit.model.packing import Layout, LayoutMode
from rosd_kit.model.prefix_cache import PrefixCache
from rosd_kit.model.tensors import to_device
from rosd_kit.model.tree_attention import AttentionTree, KeysAndValues, attend_along
from rosd_kit.parallel.fsdp import is_sharded

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel
    from transformers.modeling_outputs import BaseModelOutput


#: Model types that multiply by `logits_scaling`; Granite and its relatives divide by it.
_MULTIPLY_BY_SCALING = {"hyperclovax"}
#: Attributes of a backbone: the layouts it computes wrongly, and the engine that the settings chose for it.
_WRONG_LAYOUTS = "_rosd_kit_wrong_layouts"
_TREE_ATTENTION = "_rosd_kit_tree_attention"


@dataclass(frozen=True)
class SplitModel:
    """Backbone and head of one network; logits are `softcap * tanh(scale * head(hidden) / softcap)`.

    `packs_efficiently`: attention over a packed row costs no more than over each sequence alone. `can_share_prefixes`:
    attention can run along a prefix tree. `can_cache_prefix`: a prefix that micro-batches share may run by itself.
    `wrong_layouts` are those that `split_check.py` found to change the logits. `tree_attention` is the engine for prefix trees.
    """

    backbone: PreTrainedModel
    head: nn.Module
    scale: float = 1.0
    softcap: float | None = None
    packs_efficiently: bool = False
    can_share_prefixes: bool = False
    can_cache_prefix: bool = True
    wrong_layouts: frozenset[LayoutMode] = frozenset()
    tree_attention: Engine = "auto"

    @cached_property
    def prefix_cache(self) -> PrefixCache:
        """The prefix that several micro-batches continue from; to be closed after the last of them."""
        return PrefixCache(self.backbone)

    def states(
        self, layout: Layout, sequence: Int[Tensor, " tokens"], token: Int[Tensor, " tokens"]
    ) -> Float[Tensor, "tokens hidden"]:
        """Run the backbone on a layout and return the states that predict the given response tokens.

        `sequence` is the index of each token's sequence in the layout, `token` its index in that sequence's response.
        """
        indices = layout.indices_of(sequence, token)
        hidden = self.hidden(layout)
        return hidden.flatten(0, 1).index_select(0, to_device(indices, hidden.device))

    def hidden(
        self, layout: Layout, *, recorded: dict[int, KeysAndValues] | None = None
    ) -> Float[Tensor, "rows length hidden"]:
        """Run the backbone and return its last hidden states, one for each id of the layout.

        Gradients of a cached prefix wait for `prefix_cache.close()`. `recorded`, where given, collects the keys and values of
        a layout with a tree, by layer.
        """
        device = next(self.head.parameters()).device
        inputs = {"input_ids": to_device(layout.ids, device), "use_cache": False}
        if layout.positions is not None:
            inputs["position_ids"] = to_device(layout.positions, device)
        if layout.tree is None:
            return _last_hidden_state(self.backbone(**inputs, **self._boundaries(layout, device)))
        lengths, ancestors = zip(*((len(segment.ids), segment.ancestors) for segment in layout.tree.segments), strict=True)
        past = self.prefix_cache.keys_and_values(layout.prefix, device)
        tree = AttentionTree(lengths, ancestors, past=past, recorded=recorded, engine=self.tree_attention)
        with attend_along(self.backbone.config, tree):
            return _last_hidden_state(self.backbone(**inputs))

    def _boundaries(self, layout: Layout, device: torch.device) -> dict[str, Tensor | int]:
        """Return where the sequences of a packed row begin, for flash attention.

        Without them transformers finds the boundaries in the positions, and the host waits for the GPU in every layer.
        """
        attention = str(self.backbone.config.get_text_config()._attn_implementation)
        if not layout.lengths or not attention.startswith("flash"):
            return {}
        ends = to_device(torch.tensor([0, *accumulate(layout.lengths)], dtype=torch.int32), device)
        longest = max(layout.lengths)
        return {"cu_seq_lens_q": ends, "cu_seq_lens_k": ends, "max_length_q": longest, "max_length_k": longest}

    def layout_mode(self, requested: Literal["auto", "padded", "packed", "shared"]) -> LayoutMode:
        """Return the layout to use for this model.

        Raises `RunError` when the model does not support the requested layout.
        """
        if requested == "auto":
            candidates: tuple[tuple[LayoutMode, bool], ...] = (
                ("packed", self.packs_efficiently),
                ("shared", self.can_share_prefixes and not self.packs_efficiently),
            )
            return next((mode for mode, fits in candidates if fits and mode not in self.wrong_layouts), "padded")
        if requested == "shared" and not self.can_share_prefixes:
            raise RunError(
                f"batch.layout: 'shared' is not possible with {type(self.backbone).__name__}: it needs full attention in "
                "every layer and model.attention=sdpa. Use auto, padded or packed."
            )
        if requested in self.wrong_layouts:
            raise RunError(
                f"batch.layout: {requested!r} changes the logits of {type(self.backbone).__name__}. Use auto or padded."
            )
        return requested

    @property
    def linear(self) -> nn.Linear | None:
        """The head, if it is a plain linear layer whose products can be computed by hand."""
        plain = type(self.head) is nn.Linear and not self.head._forward_hooks and not self.head._forward_pre_hooks
        return cast(nn.Linear, self.head) if plain else None

    def project(self, hidden: Float[Tensor, "tokens hidden"], buffer: Tensor | None) -> Float[Tensor, "tokens vocab"]:
        """Return the head's raw output, written to `buffer`, the result of an earlier call, where possible. No gradient.

        The buffer saves time: the system must clear fresh memory before its first use, which is slow for logits.
        """
        if buffer is None or self.linear is None or len(buffer) < len(hidden) or buffer.dtype != hidden.dtype:
            output: Tensor = self.head(hidden)
            return output
        output = torch.mm(hidden, self.linear.weight.T, out=buffer[: len(hidden)])
        return output if self.linear.bias is None else output.add_(self.linear.bias)

    def logits(self, hidden: Float[Tensor, "tokens hidden"]) -> Float[Tensor, "tokens vocab"]:
        """Return logits in at least float32."""
        return self.finish_logits(self.head(hidden))

    def finish_logits(self, output: Float[Tensor, "tokens vocab"]) -> Float[Tensor, "tokens vocab"]:
        """Scale and soft-cap the head's raw output; return the logits in at least float32."""
        logits = output.to(torch.promote_types(output.dtype, torch.float32))
        if self.scale != 1.0:
            logits = logits * self.scale
        if self.softcap is not None:
            logits = torch.tanh(logits / self.softcap) * self.softcap
        return logits

    def head_parameters(self) -> list[nn.Parameter]:
        """Return the head's trainable parameters, tied embeddings included."""
        return [parameter for parameter in self.head.parameters() if parameter.requires_grad]

    def backward_head(
        self,
        hidden: Float[Tensor, "tokens hidden"],
        gradient: Float[Tensor, "tokens vocab"],
        totals: Sequence[Tensor],
    ) -> None:
        """Backpropagate the gradient of the head's output; add the results to `totals`.

        `totals` are the gradients of the hidden states and of each of `head_parameters()`. A plain linear layer is
        differentiated by hand, because autograd would allocate another gradient of the whole weight.
        """
        hidden_total, *parameter_totals = totals
        if self.linear is not None:
            hidden_total.addmm_(gradient, self.linear.weight)
            for parameter, total in zip(self.head_parameters(), parameter_totals, strict=True):
                if parameter is self.linear.weight:
                    total.addmm_(gradient.T, hidden)
                else:
                    total.add_(gradient.sum(0))
            return
        with torch.enable_grad():
            leaf = hidden.detach().requires_grad_()
            output = self.head(leaf)
        computed = torch.autograd.grad(output, [leaf, *self.head_parameters()], gradient, allow_unused=True)
        for total, added in zip(totals, computed, strict=True):
            if added is not None:
                total += added


def split_model(model: nn.Module, *, attention: str | None = None) -> SplitModel:
    """Split a transformers causal LM, also one inside a LoRA model or a data-parallel wrapper.

    `attention` is the implementation by which to judge the layouts that the model can take; by default its own.
    """
    inner = unwrap_lora(getattr(model, "module", model))
    config = inner.config.get_text_config()
    attention = attention or str(config._attn_implementation)
    head = inner.get_output_embeddings()
    backbone = _backbone(inner, head)
    return SplitModel(
        backbone=backbone,
        head=head,
        scale=_scale(config),
        softcap=getattr(config, "final_logit_softcapping", None) or getattr(config, "logits_soft_cap", None),
        packs_efficiently=attention.startswith("flash"),
        can_share_prefixes=attention == "sdpa" and _attends_to_everything(inner, config),
        can_cache_prefix=not is_sharded(inner),  # under FSDP every rank must run the layers equally often
        wrong_layouts=getattr(backbone, _WRONG_LAYOUTS, frozenset()),
        tree_attention=getattr(backbone, _TREE_ATTENTION, "auto"),
    )


def choose_tree_attention(model: nn.Module, engine: Engine) -> None:
    """Let a model attend along prefix trees by this engine, however it is split later."""
    setattr(split_model(model).backbone, _TREE_ATTENTION, engine)


def mark_wrong_layouts(model: nn.Module, layouts: Iterable[LayoutMode]) -> None:
    """Exclude layouts from use with this network; copies made later inherit the mark."""
    parts = split_model(model)
    setattr(parts.backbone, _WRONG_LAYOUTS, parts.wrong_layouts.union(layouts))


def _backbone(inner: PreTrainedModel, head: nn.Module) -> PreTrainedModel:
    """Return the module that makes hidden states; some architectures name the whole model, or the head, as their decoder."""
    decoder: PreTrainedModel = inner.get_decoder()
    if decoder is not inner and decoder is not head:
        return decoder
    embeddings = inner.get_input_embeddings()
    child = next(child for child in inner.children() if any(module is embeddings for module in child.modules()))
    return cast("PreTrainedModel", child)


def _last_hidden_state(output: BaseModelOutput) -> Float[Tensor, "rows length hidden"]:
    assert output.last_hidden_state is not None
    return output.last_hidden_state


def _attends_to_everything(model: object, config: object) -> bool:
    """Return whether every layer attends to the whole sequence and no layer carries a recurrent state."""
    layers = getattr(config, "layer_types", None) or ["full_attention"]
    full = set(layers) == {"full_attention"} and getattr(config, "sliding_window", None) is None
    return full and not getattr(model, "_is_stateful", False)


def _scale(config: PretrainedConfig) -> float:
    """Return the factor on the head's output, under the names of Cohere, Falcon-H1 and Granite."""
    scale = float(getattr(config, "logit_scale", None) or 1.0) * float(getattr(config, "lm_head_multiplier", 1.0))
    scaling = float(getattr(config, "logits_scaling", 1.0))
    return scale * scaling if config.model_type in _MULTIPLY_BY_SCALING else scale / scaling
