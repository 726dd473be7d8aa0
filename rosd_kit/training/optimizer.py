"""The update: AdamW or Muon, a learning-rate schedule, clipping, and skipped steps when loss or gradient is not finite.

bfloat16 has 8 significant bits: near 1, neighbouring values are 0.004 to 0.008 apart, so an update of 1e-5 changes nothing,
however often it is repeated. Therefore a float32 copy is updated (`master_weights`), and the weight is that copy, rounded. Does
not know where gradients come from.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from rosd_kit.errors import RunError
from rosd_kit.options import present_step
from rosd_kit.parallel.fsdp import local_shard, shard_like
from rosd_kit.settings import OptimizerSettings
from rosd_kit.training.muon import Muon

#: Bytes of weights that are updated together.
_GROUP_BYTES = 1 << 30
_MASTER = "master"


@dataclass(frozen=True, kw_only=True)
class StepOutcome:
    """The result of an update.

    `grad_norm` is before clipping; `lr` is the learning rate used, also for a skipped step; `change` is the norm of the change
    of some sampled entries of every parameter, 0 when nothing moved.
    """

    applied: bool
    grad_norm: float
    lr: float
    change: float


def learning_rate(settings: OptimizerSettings, step: int, steps: int) -> float:
    """Return the rate of update `step` (from 0) of `steps`: linear warm-up, then constant or a cosine decay to 5 %."""
    warmed = step if settings.warmup == "from_zero" else step + 1
    rate = settings.lr * (min(1.0, warmed / settings.warmup_steps) if settings.warmup_steps else 1.0)
    if settings.decay == "cosine":
        progress = min(1.0, step / max(1, settings.schedule_steps or steps))
        rate *= 0.05 + 0.95 * 0.5 * (1.0 + math.cos(math.pi * progress))
    return rate


class Optimizer:
    """Updates the trainable parameters of a model; skips the update when loss or gradient is not finite."""

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

    def step(self, loss: float, *, ends_step: bool = True) -> StepOutcome:
        """Apply the accumulated gradients and clear them; change nothing when `loss` or the gradient's norm is not finite.

        The learning rate stays until an update `ends_step`.
        """
        settings = self.settings.at_step(present_step() or 0)
        lr = learning_rate(settings, self.step_count, self.steps)
        norm = clip_gradients(self.parameters, settings.clip)
        before = self._probe()
        applied = math.isfinite(loss) and math.isfinite(norm)
        if applied:
            for optimizer in self._optimizers:
                for group in optimizer.param_groups:
                    group["lr"] = lr * (settings.muon_factor if isinstance(optimizer, Muon) else 1.0)
                    group["weight_decay"] = settings.weight_decay
                with self._widened_gradients(_updated_by(optimizer)):
                    optimizer.step()
        for parameter in self.parameters:
            parameter.grad = None
        self.step_count += ends_step
        self.bad_steps = 0 if applied else self.bad_steps + 1
        change = float((self._probe() - before).norm())
        return StepOutcome(applied=applied, grad_norm=norm, lr=lr, change=change)

    @contextmanager
    def _widened_gradients(self, updated: Sequence[Tensor]) -> Iterator[None]:
        """Move the gradients of narrow weights to their float32 copies for an update; afterwards round the copies back."""
        pairs = [(tensor, self._weights[tensor]) for tensor in updated if self._weights[tensor] in self._masters]
        for master, weight in pairs:
            if weight.grad is not None:
                master.grad, weight.grad = weight.grad.to(master.dtype), None
        yield
        with torch.no_grad():
            for master, weight in pairs:
                master.grad = None
                weight.copy_(master)

    def _probe(self) -> Tensor:
        """Return about a hundred evenly spaced entries of every parameter, because all of them would cost too much.

        Of sharded weights they come from this rank's shard.
        """
        shards = [local_shard(p.detach()) for p in self._updated]
        return torch.cat([p.flatten()[:: max(1, p.numel() // 97)].float() for p in shards])

    def check(self) -> None:
        """Raise `RunError` when `max_bad_steps` updates in a row were skipped."""
        if self.bad_steps >= self.settings.max_bad_steps:
            raise RunError(
                f"{self.bad_steps} updates in a row were skipped because the loss or its gradient was NaN or infinite "
                f"(optimizer.max_bad_steps={self.settings.max_bad_steps}). The last samples are in the run folder. "
                "Lower optimizer.lr, or resume from an earlier checkpoint."
            )

    def state(self) -> dict[str, Tensor]:
        """Return all state that the next update depends on, as named tensors: `<parameter>.<state key>`."""
        tensors = {"counters": torch.tensor([self.step_count, self.bad_steps])}
        tensors |= {f"{self._names[master]}.{_MASTER}": master.detach() for master in self._masters.values()}
        for optimizer in self._optimizers:
            for parameter, entries in optimizer.state.items():
                for key, value in entries.items():
                    tensors[f"{self._names[parameter]}.{key}"] = torch.as_tensor(value)
        return tensors

    def parameter_of(self, name: str) -> Tensor | None:
        """Return the parameter that a tensor of `state` belongs to; None for the counters."""
        owner = name.rpartition(".")[0]
        return next((parameter for parameter, known in self._names.items() if known == owner), None)

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Restore the result of `state`, given as full tensors or as this rank's shards."""
        self.step_count, self.bad_steps = (int(n) for n in state["counters"])
        by_parameter: dict[str, dict[str, Tensor]] = {}
        for name, value in state.items():
            parameter_name, _, key = name.rpartition(".")
            by_parameter.setdefault(parameter_name, {})[key] = value
        with torch.no_grad():
            for weight, master in self._masters.items():
                saved = by_parameter.get(self._names[master], {}).pop(_MASTER, None)
                master.copy_(weight if saved is None else shard_like(saved, master))
        for optimizer in self._optimizers:
            entries = {
                index: {key: self._restored(key, value, p) for key, value in by_parameter[self._names[p]].items()}
                for index, p in enumerate(_updated_by(optimizer))
                if by_parameter.get(self._names[p])
            }
            optimizer.load_state_dict({**optimizer.state_dict(), "state": entries})

    def _restored(self, key: str, value: Tensor, parameter: Tensor) -> Tensor | int:
        if key == "step" and self.settings.name == "adamw8bit":
            return int(value)
        return shard_like(value, parameter).clone() if value.shape == parameter.shape else value.clone()


def clip_gradients(parameters: Iterable[nn.Parameter], max_norm: float) -> float:
    """Scale all gradients so that their total norm is at most `max_norm`; return the norm before.

    Sharded and whole parameters may be mixed; every rank computes the same norm.
    """
    by_sharding: dict[bool, list[nn.Parameter]] = {}
    for parameter in parameters:
        by_sharding.setdefault(isinstance(parameter, DTensor), []).append(parameter)
    norms = []
    for sharded, group in by_sharding.items():
        norm = torch.nn.utils.get_total_norm([p.grad for p in group if p.grad is not None])
        norms.append(norm.full_tensor() if sharded and isinstance(norm, DTensor) else norm)
    total = norms[0] if len(norms) == 1 else torch.linalg.vector_norm(torch.stack(norms))
    for group in by_sharding.values():
        torch.nn.utils.clip_grads_with_norm_(group, max_norm, total)
    return float(total)


def _is_narrow(tensor: Tensor) -> bool:
    return tensor.dtype.itemsize < torch.float32.itemsize


def _widened(parameter: Tensor) -> Tensor:
    return parameter.detach().to(torch.float32).requires_grad_()


def _updated_by(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    return [tensor for group in optimizer.param_groups for tensor in group["params"]]


def _build(
    model: nn.Module, names: Mapping[Tensor, str], weights: Mapping[Tensor, Tensor], settings: OptimizerSettings
) -> list[torch.optim.Optimizer]:
    """Return the torch optimizers.

    `names` and `weights` give, for every tensor to update, its name and its parameter in the model.
    """
    if settings.name == "muon":
        _refuse_shards(names, settings.name, "whole matrices")
        embeddings = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
        matrices = [
            tensor
            for tensor, name in names.items()
            if tensor.ndim == 2 and id(weights[tensor]) not in embeddings and not name.endswith("lm_head.weight")
        ]
        muon = Muon(matrices, lr=settings.lr, weight_decay=settings.weight_decay, momentum=0.95)
        by_muon = {id(tensor) for tensor in matrices}
        rest = [_adamw(group, settings) for group in _groups(t for t in names if id(t) not in by_muon)]
        return [muon, *rest]
    if settings.name == "adamw8bit":
        _refuse_shards(names, settings.name, "whole tensors")
        return [_adamw8bit(group, settings) for group in _groups(names)]
    return [_adamw(group, settings) for group in _groups(names)]


def _refuse_shards(tensors: Iterable[Tensor], name: str, needs: str) -> None:
    if any(isinstance(tensor, DTensor) for tensor in tensors):
        raise RunError(f"optimizer.name: {name!r} needs {needs} and parallel.mode is 'fsdp'. Use adamw, or ddp.")


def _groups(tensors: Iterable[Tensor]) -> list[list[Tensor]]:
    """Split tensors into groups that are updated one after the other, so that few float32 gradients exist at a time.

    Sharded and whole tensors go to separate groups, because torch cannot mix them.
    """
    groups: list[list[Tensor]] = []
    ordered = list(tensors)
    for sharded in (True, False):
        free_bytes = -1
        for tensor in ordered:
            if isinstance(tensor, DTensor) is sharded:
                size = local_shard(tensor.detach()).nbytes
                if size > free_bytes:
                    groups.append([])
                    free_bytes = _GROUP_BYTES
                groups[-1].append(tensor)
                free_bytes -= size
    return groups


def _adamw(tensors: list[Tensor], settings: OptimizerSettings) -> torch.optim.Optimizer:
    return torch.optim.AdamW(
        tensors, lr=settings.lr, betas=settings.betas, weight_decay=settings.weight_decay,
        fused=True,  # torch's other implementations allocate temporaries as large as the weights
    )  # fmt: skip


def _adamw8bit(tensors: list[Tensor], settings: OptimizerSettings) -> torch.optim.Optimizer:
    try:
        bitsandbytes = importlib.import_module("bitsandbytes.optim")
    except ImportError as error:
        raise RunError(
            'optimizer.name: adamw8bit needs bitsandbytes, which is not installed. Run: pip install "rosd-kit[8bit]"'
        ) from error
    optimizer: torch.optim.Optimizer = bitsandbytes.AdamW8bit(
        tensors, lr=settings.lr, betas=settings.betas, weight_decay=settings.weight_decay
    )
    return optimizer
