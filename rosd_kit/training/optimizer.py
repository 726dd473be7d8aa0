"""The update: AdamW or Muon, a learning-rate schedule, clipping, and the rule for steps that are not finite.

bfloat16 keeps 8 bits of a number: near a weight of 1 its neighbours lie 0.004 to 0.008 away, and an update of 1e-5 changes
nothing, however often it is made. So what is updated is a float32 copy (`master_weights`), and the weight is its rounding.
Knows nothing of where gradients come from.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from rosd_kit.errors import RunError
from rosd_kit.parallel.fsdp import local, piece
from rosd_kit.settings import OptimizerSettings

#: Bytes of weights that are updated in one go.
_GROUP_BYTES = 1 << 30
_MASTER = "master"


@dataclass(frozen=True, kw_only=True)
class StepOutcome:
    """What an update did.

    `grad_norm` is before clipping; `lr` is the rate that was (or would have been) used; `change` is how far a few entries of
    every parameter moved, 0 when nothing did.
    """

    applied: bool
    grad_norm: float
    lr: float
    change: float


def learning_rate(settings: OptimizerSettings, step: int, steps: int) -> float:
    """Return the rate of update `step` (from 0) of `steps`: a linear warm-up, then constant or a cosine down to 5 %."""
    rate = settings.lr * min(1.0, (step + 1) / max(1, settings.warmup_steps))
    if settings.decay == "cosine":
        done = min(1.0, step / max(1, steps))
        rate *= 0.05 + 0.95 * 0.5 * (1.0 + math.cos(math.pi * done))
    return rate


class Optimizer:
    """Updates the trainable parameters of a model, or refuses to when loss or gradient are not finite."""

    def __init__(self, model: nn.Module, settings: OptimizerSettings, *, steps: int) -> None:
        self.settings = settings
        self.steps = steps
        self.step_count = 0
        self.bad_steps = 0
        named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
        self.parameters = [p for _, p in named]
        if not self.parameters:
            raise RunError("the model has no trainable parameters. Check model.lora and model.freeze.")
        self._masters = {p: _widened(p) for p in self.parameters if settings.master_weights and _is_narrow(p)}
        self._updated = [self._masters.get(p, p) for p in self.parameters]
        self._weights = dict(zip(self._updated, self.parameters, strict=True))
        self._names = dict(zip(self._updated, (name for name, _ in named), strict=True))
        self._optimizers = _build(model, self._names, self._weights, settings)

    def step(self, loss: float) -> StepOutcome:
        """Apply the collected gradients and clear them.

        When `loss` or the gradient's norm is NaN or infinite, nothing is changed; after `max_bad_steps` such steps in a row
        `RunError` says so.
        """
        lr = learning_rate(self.settings, self.step_count, self.steps)
        norm = clip_gradients(self.parameters, self.settings.clip)
        before = self._probe()
        applied = math.isfinite(loss) and math.isfinite(norm)
        if applied:
            for optimizer, factor in self._optimizers:
                for group in optimizer.param_groups:
                    group["lr"] = lr * factor
                with self._widened_gradients(_updated_by(optimizer)):
                    optimizer.step()
        for parameter in self.parameters:
            parameter.grad = None
        self.step_count += 1
        self.bad_steps = 0 if applied else self.bad_steps + 1
        change = float((self._probe() - before).norm())
        return StepOutcome(applied=applied, grad_norm=norm, lr=lr, change=change)

    @contextmanager
    def _widened_gradients(self, updated: Sequence[Tensor]) -> Iterator[None]:
        """Give float32 copies their gradients for the time of an update, and the weights what became of the copies."""
        mine = [(tensor, self._weights[tensor]) for tensor in updated if self._weights[tensor] in self._masters]
        for master, weight in mine:
            if weight.grad is not None:
                master.grad, weight.grad = weight.grad.to(master.dtype), None
        yield
        with torch.no_grad():
            for master, weight in mine:
                master.grad = None
                weight.copy_(master)

    def _probe(self) -> Tensor:
        """Return up to about a hundred entries, evenly spread, of every parameter: cheap where all weights would not be.

        Of weights in pieces they are this process's.
        """
        held = [local(p.detach()) for p in self._updated]
        return torch.cat([p.flatten()[:: max(1, p.numel() // 97)].float() for p in held])

    def check(self) -> None:
        """Raise `RunError` when too many updates in a row were skipped."""
        if self.bad_steps >= self.settings.max_bad_steps:
            raise RunError(
                f"{self.bad_steps} updates in a row were skipped because the loss or its gradient was NaN or infinite "
                f"(optimizer.max_bad_steps={self.settings.max_bad_steps}). The last samples lie in the run's folder. "
                "Lower optimizer.lr, or resume from an earlier checkpoint."
            )

    def state(self) -> dict[str, Tensor]:
        """Return everything that the next update depends on, as named tensors: `<parameter>.<what is kept of it>`."""
        tensors = {"counters": torch.tensor([self.step_count, self.bad_steps])}
        tensors |= {f"{self._names[master]}.{_MASTER}": master.detach() for master in self._masters.values()}
        for optimizer, _ in self._optimizers:
            for parameter, entries in optimizer.state.items():
                for key, value in entries.items():
                    tensors[f"{self._names[parameter]}.{key}"] = torch.as_tensor(value)
        return tensors

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Restore what `state` returned, as whole tensors."""
        self.step_count, self.bad_steps = (int(n) for n in state["counters"])
        kept: dict[str, dict[str, Tensor]] = {}
        for name, value in state.items():
            owner, _, key = name.rpartition(".")
            kept.setdefault(owner, {})[key] = value
        with torch.no_grad():
            for weight, master in self._masters.items():
                saved = kept.get(self._names[master], {}).pop(_MASTER, None)
                master.copy_(weight if saved is None else piece(saved, master))
        for optimizer, _ in self._optimizers:
            entries = {
                index: {key: self._restored(key, value, p) for key, value in kept[self._names[p]].items()}
                for index, p in enumerate(_updated_by(optimizer))
                if kept.get(self._names[p])
            }
            optimizer.load_state_dict({**optimizer.state_dict(), "state": entries})

    def _restored(self, key: str, value: Tensor, parameter: Tensor) -> Tensor | int:
        if key == "step" and self.settings.name == "adamw8bit":
            return int(value)
        return piece(value, parameter).clone() if value.shape == parameter.shape else value.clone()


def clip_gradients(parameters: Iterable[nn.Parameter], most: float) -> float:
    """Scale all gradients so that their common norm is at most `most`; return the norm before.

    Weights in pieces and whole ones may be mixed; every process comes to the same norm.
    """
    kinds: dict[bool, list[nn.Parameter]] = {}
    for parameter in parameters:
        kinds.setdefault(isinstance(parameter, DTensor), []).append(parameter)
    norms = []
    for in_pieces, some in kinds.items():
        norm = torch.nn.utils.get_total_norm([p.grad for p in some if p.grad is not None])
        norms.append(norm.full_tensor() if in_pieces and isinstance(norm, DTensor) else norm)
    total = norms[0] if len(norms) == 1 else torch.linalg.vector_norm(torch.stack(norms))
    for some in kinds.values():
        torch.nn.utils.clip_grads_with_norm_(some, most, total)
    return float(total)


def _is_narrow(tensor: Tensor) -> bool:
    return tensor.dtype.itemsize < torch.float32.itemsize


def _widened(parameter: Tensor) -> Tensor:
    return parameter.detach().to(torch.float32).requires_grad_()


def _updated_by(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    return [tensor for group in optimizer.param_groups for tensor in group["params"]]


def _build(
    model: nn.Module, names: Mapping[Tensor, str], weights: Mapping[Tensor, Tensor], settings: OptimizerSettings
) -> list[tuple[torch.optim.Optimizer, float]]:
    """Return the torch optimizers and the factor of each on the learning rate; `names` and `weights` of what they update."""
    if settings.name == "muon":
        _refuse_pieces(names, settings.name, "whole matrices")
        embeddings = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
        matrices = [
            tensor
            for tensor, name in names.items()
            if tensor.ndim == 2 and id(weights[tensor]) not in embeddings and not name.endswith("lm_head.weight")
        ]
        muon = torch.optim.Muon(matrices, lr=settings.lr, weight_decay=settings.weight_decay, momentum=0.95)
        chosen = {id(tensor) for tensor in matrices}
        rest = [(_adamw(some, settings), 1.0) for some in _groups(t for t in names if id(t) not in chosen)]
        return [(muon, settings.muon_factor), *rest]
    if settings.name == "adamw8bit":
        _refuse_pieces(names, settings.name, "whole tensors")
        return [(_adamw8bit(some, settings), 1.0) for some in _groups(names)]
    return [(_adamw(some, settings), 1.0) for some in _groups(names)]


def _refuse_pieces(tensors: Iterable[Tensor], name: str, needs: str) -> None:
    if any(isinstance(tensor, DTensor) for tensor in tensors):
        raise RunError(f"optimizer.name: {name!r} needs {needs} and parallel.mode is 'fsdp'. Use adamw, or ddp.")


def _groups(tensors: Iterable[Tensor]) -> list[list[Tensor]]:
    """Cut tensors into groups that are updated one after the other: pieces and whole ones apart, which torch cannot mix.

    Narrow weights have gradients in float32 while they are updated; in groups not all of them are there at once.
    """
    found: list[list[Tensor]] = []
    listed = list(tensors)
    for kind in (True, False):
        room = -1
        for tensor in listed:
            if isinstance(tensor, DTensor) is kind:
                size = local(tensor.detach()).nbytes
                if size > room:
                    found.append([])
                    room = _GROUP_BYTES
                found[-1].append(tensor)
                room -= size
    return found


def _adamw(tensors: list[Tensor], settings: OptimizerSettings) -> torch.optim.Optimizer:
    return torch.optim.AdamW(
        tensors, lr=settings.lr, betas=settings.betas, weight_decay=settings.weight_decay,
        fused=True,  # torch's other loops make tensors as large as the weights on the way
    )  # fmt: skip


def _adamw8bit(tensors: list[Tensor], settings: OptimizerSettings) -> torch.optim.Optimizer:
    try:
        made_of: Any = importlib.import_module("bitsandbytes.optim")
    except ImportError as error:
        raise RunError(
            'optimizer.name: adamw8bit needs bitsandbytes, which is not installed. Run: pip install "rosd-kit[8bit]"'
        ) from error
    found: torch.optim.Optimizer = made_of.AdamW8bit(
        tensors, lr=settings.lr, betas=settings.betas, weight_decay=settings.weight_decay
    )
    return found
