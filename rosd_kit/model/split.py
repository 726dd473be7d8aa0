"""A causal language model cut in two: the backbone that makes hidden states, and the head that makes logits.

Cutting there lets the head run on chosen tokens only. Knows nothing of samples or losses.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from rosd_kit.errors import RunError
from rosd_kit.model.packing import Layout, Mode, Text, lay_out
from rosd_kit.model.prefix_cache import Beginnings
from rosd_kit.model.tensors import sent
from rosd_kit.model.tree_attention import Branches, branching
from rosd_kit.parallel.fsdp import is_sharded

#: Model types that multiply by `logits_scaling`, by which Granite and its relatives divide.
_MULTIPLY_BY_SCALING = {"hyperclovax"}


@dataclass(frozen=True)
class SplitModel:
    """Backbone and head of one network; logits are `softcap * tanh(scale * head(hidden) / softcap)`.

    `packs` says whether its attention runs over packed texts at no more cost than over each of them alone, `shares`
    whether it can run along a tree of texts, `begins` whether a beginning that micro-batches share may be a run of its own.
    """

    backbone: nn.Module
    head: nn.Module
    scale: float = 1.0
    softcap: float | None = None
    packs: bool = False
    shares: bool = False
    begins: bool = True

    @cached_property
    def beginnings(self) -> Beginnings:
        """What the backbone has run of texts that several micro-batches go on from; to be closed after the last of them."""
        return Beginnings(self.backbone)

    def states(
        self, layout: Layout, sequence: Int[Tensor, " tokens"], token: Int[Tensor, " tokens"]
    ) -> Float[Tensor, "tokens hidden"]:
        """Run the backbone on a layout and return the states that predict the given response tokens.

        `sequence` and `token` are the tokens' places: which text of the layout, and the index in its response.
        """
        rows = layout.rows(sequence, token)
        hidden = self.hidden(layout)
        return hidden.flatten(0, 1).index_select(0, sent(rows, hidden.device))

    def hidden(self, layout: Layout) -> Float[Tensor, "rows length hidden"]:
        """Run the backbone and return its last hidden states, one for each id of the layout.

        What a common beginning has of the gradient waits for `beginnings.close()`.
        """
        device = next(self.head.parameters()).device
        inputs = {"input_ids": sent(layout.ids, device), "use_cache": False}
        if layout.positions is not None:
            inputs["position_ids"] = sent(layout.positions, device)
        if layout.tree is None:
            return _last(self.backbone(**inputs))
        lengths, chains = zip(*((len(segment.ids), segment.chain) for segment in layout.tree.segments), strict=True)
        branches = Branches(lengths, chains, past=self.beginnings.past(layout.begun, device))
        with branching(self.backbone.config, branches):
            return _last(self.backbone(**inputs))

    def mode(self, wanted: Literal["auto", "padded", "packed", "shared"]) -> Mode:
        """Return the form in which this model takes its texts.

        Raises `RunError` when prefixes are to be shared and the model's attention does not allow it.
        """
        if wanted == "auto":
            return "packed" if self.packs else "shared" if self.shares else "padded"
        if wanted == "shared" and not self.shares:
            raise RunError(
                f"batch.layout: 'shared' is not possible with {type(self.backbone).__name__}: it needs attention over "
                "the whole text in every layer and model.attention sdpa. Use auto, padded or packed."
            )
        return wanted

    @property
    def linear(self) -> nn.Linear | None:
        """The head, if it is nothing but a linear layer, so that its products can be taken by hand."""
        plain = type(self.head) is nn.Linear and not self.head._forward_hooks and not self.head._forward_pre_hooks
        return cast(nn.Linear, self.head) if plain else None

    def project(self, hidden: Float[Tensor, "tokens hidden"], room: Tensor | None) -> Float[Tensor, "tokens vocab"]:
        """Return the head's output; without gradient, and if possible in `room`, which an earlier call returned.

        Fresh memory has to be cleared by the system before it can be written, which takes long for logits.
        """
        if room is None or self.linear is None or len(room) < len(hidden) or room.dtype != hidden.dtype:
            output: Tensor = self.head(hidden)
            return output
        output = torch.mm(hidden, self.linear.weight.T, out=room[: len(hidden)])
        return output if self.linear.bias is None else output.add_(self.linear.bias)

    def logits(self, hidden: Float[Tensor, "tokens hidden"]) -> Float[Tensor, "tokens vocab"]:
        """Return logits in at least float32."""
        return self.finish(self.head(hidden))

    def finish(self, raw: Float[Tensor, "tokens vocab"]) -> Float[Tensor, "tokens vocab"]:
        """Return the logits, in at least float32, of what the head put out."""
        logits = raw.to(torch.promote_types(raw.dtype, torch.float32))
        if self.scale != 1.0:
            logits = logits * self.scale
        if self.softcap is not None:
            logits = torch.tanh(logits / self.softcap) * self.softcap
        return logits

    def head_parameters(self) -> list[nn.Parameter]:
        """Return the head's trainable parameters; tied embeddings are among them."""
        return [parameter for parameter in self.head.parameters() if parameter.requires_grad]

    def pull_back(
        self,
        hidden: Float[Tensor, "tokens hidden"],
        gradient: Float[Tensor, "tokens vocab"],
        into: Sequence[Tensor],
    ) -> None:
        """Take the gradient of the head's output to the hidden states and the head's parameters; add them to `into`.

        A plain linear layer is differentiated by hand, for autograd would make a new gradient of the whole weight.
        """
        to_hidden, *to_head = into
        if self.linear is not None:
            to_hidden.addmm_(gradient, self.linear.weight)
            for parameter, total in zip(self.head_parameters(), to_head, strict=True):
                if parameter is self.linear.weight:
                    total.addmm_(gradient.T, hidden)
                else:
                    total.add_(gradient.sum(0))
            return
        with torch.enable_grad():
            leaf = hidden.detach().requires_grad_()
            output = self.head(leaf)
        found = torch.autograd.grad(output, [leaf, *self.head_parameters()], gradient, allow_unused=True)
        for total, part in zip(into, found, strict=True):
            if part is not None:
                total += part


def split(model: nn.Module) -> SplitModel:
    """Cut a transformers causal LM, also one inside a LoRA model or a data-parallel wrapper."""
    inner: Any = getattr(model, "module", model)
    if hasattr(inner, "peft_config"):
        inner = inner.get_base_model()
    config = inner.config.get_text_config()
    return SplitModel(
        backbone=inner.get_decoder(),
        head=inner.get_output_embeddings(),
        scale=_scale(config),
        softcap=getattr(config, "final_logit_softcapping", None),
        packs=str(config._attn_implementation).startswith("flash"),
        shares=_shares(inner, config),
        begins=not is_sharded(inner),  # under FSDP every process must run the layers equally often
    )


def _last(output: Any) -> Float[Tensor, "rows length hidden"]:
    states: Tensor = output.last_hidden_state
    return states


def _shares(model: Any, config: Any) -> bool:
    """Return whether every layer attends to the whole text, and does it through the interface of transformers."""
    layers = getattr(config, "layer_types", None) or ["full_attention"]
    whole = set(layers) == {"full_attention"} and getattr(config, "sliding_window", None) is None
    return whole and config._attn_implementation == "sdpa" and not getattr(model, "_is_stateful", False)


def _scale(config: Any) -> float:
    """Return the factor on the head's output: Cohere's, Falcon-H1's and Granite's names for it."""
    scale = float(getattr(config, "logit_scale", None) or 1.0) * float(getattr(config, "lm_head_multiplier", 1.0))
    scaling = float(getattr(config, "logits_scaling", 1.0))
    return scale * scaling if config.model_type in _MULTIPLY_BY_SCALING else scale / scaling


@torch.no_grad()
def check_split(model: nn.Module, layout: Literal["auto", "padded", "packed", "shared"] = "auto") -> None:
    """Raise `RunError` unless backbone plus head reproduce the model's own logits; to be called once, after loading.

    Architectures differ in what they do to logits, and in what they leave to the attention that `shared` puts in. An unknown
    step would train on wrong probabilities without a word, so it is looked for with two short texts.
    """
    parts = split(model)
    mode = parts.mode(layout)
    first, second = (Text((1, 2, 3, 4), (*response, 9)) for response in ((5, 6, 7, 8), (5, 8)))
    training = [module for module in model.modules() if module.training]
    try:
        model.eval()
        device = next(parts.head.parameters()).device
        expected = model(input_ids=torch.tensor([first.ids], device=device), use_cache=False).logits[0].double()
        alone, apart = (lay_out(texts, pad_id=0, mode="padded") for texts in ([first], [first, second]))
        found = parts.logits(parts.hidden(alone)[0]).double()
        if mode == "shared":
            shared = lay_out([first, second], pad_id=0, mode=mode)
            wanted, got = (parts.logits(parts.hidden(one).flatten(0, 1)[one.places]).double() for one in (apart, shared))
    finally:
        for module in training:
            module.training = True
    gap = _gap(found, expected)
    if not gap <= 1e-2:
        raise RunError(
            f"model.path: {type(model).__name__} does something to its logits that is not known here (they differ by "
            f"{gap:.3g}). Use an architecture whose logits are the head's output, scaled or soft-capped."
        )
    if mode == "shared" and not (gap := _gap(got, wanted)) <= 1e-2:
        raise RunError(
            f"batch.layout: {type(model).__name__} gives texts other logits where they share what they begin with (they "
            f"differ by {gap:.3g}), so its attention does not go through the interface of transformers. Use padded."
        )


def _gap(found: Tensor, expected: Tensor) -> float:
    """Return the largest difference, next to the largest value where that is above 1."""
    return float((found - expected).abs().max() / (1.0 + expected.abs().max()))
