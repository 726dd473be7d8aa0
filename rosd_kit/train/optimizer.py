"""The update: AdamW or Muon, a learning-rate schedule, clipping, and the rule for steps that are not finite.

Knows nothing of where gradients come from.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from rosd_kit.errors import RunError
from rosd_kit.settings import OptimizerSettings
from rosd_kit.train.sharding import local, piece


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
        self._names: dict[Tensor, str] = {p: name for name, p in model.named_parameters() if p.requires_grad}
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        if not self.parameters:
            raise RunError("the model has no trainable parameters. Check model.lora and what is frozen.")
        self._optimizers = _build(model, settings)

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
                optimizer.step()
        for parameter in self.parameters:
            parameter.grad = None
        self.step_count += 1
        self.bad_steps = 0 if applied else self.bad_steps + 1
        change = float((self._probe() - before).norm())
        return StepOutcome(applied=applied, grad_norm=norm, lr=lr, change=change)

    def _probe(self) -> Tensor:
        """Return up to about a hundred entries, evenly spread, of every parameter: cheap where all weights would not be.

        Of weights in pieces they are this process's.
        """
        held = [local(p.detach()) for p in self.parameters]
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
        for optimizer, _ in self._optimizers:
            listed = [p for group in optimizer.param_groups for p in group["params"]]
            entries = {
                index: {key: _restored(value, p) for key, value in kept[self._names[p]].items()}
                for index, p in enumerate(listed)
                if self._names[p] in kept
            }
            optimizer.load_state_dict({**optimizer.state_dict(), "state": entries})


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


def _restored(value: Tensor, parameter: Tensor) -> Tensor:
    return piece(value, parameter).clone() if value.shape == parameter.shape else value.clone()


def _build(model: nn.Module, settings: OptimizerSettings) -> list[tuple[torch.optim.Optimizer, float]]:
    """Return the torch optimizers and the factor of each on the learning rate."""
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    if settings.name == "adamw":
        return [(_adamw((p for _, p in named), settings), 1.0)]
    if any(isinstance(p, DTensor) for _, p in named):
        raise RunError("optimizer.name: 'muon' needs whole matrices and parallel.mode is 'fsdp'. Use adamw, or ddp.")
    embeddings = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
    heads = {id(p) for name, p in named if name.endswith("lm_head.weight")}
    matrices = [p for _, p in named if p.ndim == 2 and id(p) not in embeddings | heads]
    chosen = {id(p) for p in matrices}
    muon = torch.optim.Muon(matrices, lr=settings.lr, weight_decay=settings.weight_decay, momentum=0.95)
    rest = _adamw((p for _, p in named if id(p) not in chosen), settings)
    return [(muon, settings.muon_factor), (rest, 1.0)]


def _adamw(parameters: Iterable[Tensor], settings: OptimizerSettings) -> torch.optim.Optimizer:
    kinds: dict[bool, list[Tensor]] = {}
    for parameter in parameters:  # torch updates a group in one go, which cannot mix pieces and whole tensors
        kinds.setdefault(isinstance(parameter, DTensor), []).append(parameter)
    groups = [{"params": some} for some in kinds.values()]
    return torch.optim.AdamW(groups, lr=settings.lr, betas=settings.betas, weight_decay=settings.weight_decay)
