"""What the micro-batches of a large family begin with: run once, handed to each of them, differentiated once.

Keys and values of a beginning are cut off from their graph, so that the micro-batches need not be in memory together: each
leaves its gradient at the keys and values, and one backward pass at the end takes the sum through the beginning. Knows
nothing of losses.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from rosd_kit.model.prefix_tree import Ids
from rosd_kit.model.tensors import sent
from rosd_kit.model.tree_attention import Branches, KeysAndValues, branching


@dataclass
class _Open:
    """A beginning that has been run: what the layers made of it, and the same cut off, to collect gradients."""

    ids: Ids
    differentiable: bool
    made: dict[int, KeysAndValues]
    cut: dict[int, KeysAndValues]


@dataclass
class Beginnings:
    """The beginning that a backbone ran last; asked for the same one again, it need not run."""

    backbone: nn.Module
    _open: _Open | None = field(default=None, repr=False)

    def past(self, ids: Ids, device: torch.device) -> dict[int, KeysAndValues]:
        """Return the keys and values, by layer, that texts with this beginning go on from; none for no beginning."""
        if not ids:
            return {}
        opened = self._open
        if opened is None or opened.differentiable != torch.is_grad_enabled() or opened.ids != ids:
            self.close()
            opened = self._open = self._run(ids, device)
        return opened.cut

    def _run(self, ids: Ids, device: torch.device) -> _Open:
        made: dict[int, KeysAndValues] = {}
        with branching(self.backbone.config, Branches([len(ids)], [()], made=made)):
            self.backbone(
                input_ids=sent(torch.tensor([ids]), device),
                position_ids=sent(torch.arange(len(ids))[None], device),
                use_cache=False,
            )
        return _Open(ids, torch.is_grad_enabled(), made, {layer: (_leaf(k), _leaf(v)) for layer, (k, v) in made.items()})

    def close(self) -> None:
        """Take the gradients that micro-batches have left through the beginning, and forget it.

        To be called when no micro-batch goes on from it any more, or the gradient lacks its part.
        """
        opened, self._open = self._open, None
        if opened is None:
            return
        pairs = [pair for layer, made in opened.made.items() for pair in zip(made, opened.cut[layer], strict=True)]
        reached = [(made, cut.grad) for made, cut in pairs if cut.grad is not None]
        if reached:
            torch.autograd.backward([made for made, _ in reached], [gradient for _, gradient in reached])


def _leaf(tensor: Tensor) -> Tensor:
    return tensor.detach().requires_grad_(tensor.requires_grad)
