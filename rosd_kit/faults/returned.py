"""What the slots of the loss, tasks and teachers may return, and that they leave alone the tensors that they are given."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import NamedTuple, Protocol, SupportsFloat

import torch
from torch import Tensor

from rosd_kit.contracts import Projection, TeacherModel
from rosd_kit.errors import ComponentError
from rosd_kit.types import Problem

#: Log-probs may exceed 0 by rounding.
_ROUNDING = 1e-3


class Expects(Protocol):
    """What a check of weights uses of a boundary."""

    first_step: bool

    def expect(self, message: str, holds: Tensor) -> None:
        """Note a condition, which is looked at before the weights are updated."""


class Guard(Protocol):
    """What a check uses of the guard of a method."""

    @property
    def boundary(self) -> Expects:
        """Where conditions are noted that cannot be looked at during the call."""

    def refuse(self, what: str, *value: object) -> ComponentError:
        """Return the error that the method did or returned something that its slot does not allow."""


class Call(NamedTuple):
    """The arguments of a call, by position and by name."""

    positional: Sequence[object]
    named: Mapping[str, object]


class Check:
    """The check of one method of one slot; the base class accepts everything."""

    def before(self, guard: Guard, call: Call) -> object:
        """Return what `after` needs to know of the arguments before the call."""
        return None

    def after(self, guard: Guard, call: Call, before: object, result: object) -> None:
        """Raise `ComponentError` unless the result is allowed."""

    def entered(self, guard: Guard, value: object) -> None:
        """Raise `ComponentError` unless what the result yields as a context manager is allowed."""


@dataclass(frozen=True)
class _Arguments:
    """The tensors of a call by name, before it: each with its version, copies of them in the first step, and gradients."""

    versions: Mapping[str, tuple[Tensor, int]]
    copies: Mapping[str, Tensor]
    differentiable: bool


class _TensorCheck(Check):
    """Checks tensors: arguments unchanged, gradients kept, one number per token, finite in the first step."""

    keeps_gradient = True

    def before(self, guard: Guard, call: Call) -> object:
        tensors = dict(_tensors(call))
        copies = {name: tensor.detach().clone() for name, tensor in tensors.items()} if guard.boundary.first_step else {}
        differentiable = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors.values())
        versions = {name: (tensor, _version(tensor)) for name, tensor in tensors.items()}
        return _Arguments(versions, copies, differentiable)

    def after(self, guard: Guard, call: Call, before: object, result: object) -> None:
        assert isinstance(before, _Arguments)
        copies = before.copies
        for name, (tensor, version) in before.versions.items():
            same = _version(tensor) == version and (name not in copies or _equal(tensor.detach(), copies[name]))
            if not same:
                raise guard.refuse(f"changed its argument {name!r} in place; other components read it too. Work on a copy")
        tokens = next(tensor.shape[0] for tensor, _ in before.versions.values() if tensor.ndim)
        for name, tensor in self.results(guard, result, tokens):
            if not tensor.is_floating_point():
                raise guard.refuse(f"returned {name} of dtype {tensor.dtype}; it must be a floating-point tensor")
            detached = before.differentiable and self.keeps_gradient and name != "teacher" and not tensor.requires_grad
            if detached and bool(tensor.count_nonzero()):
                raise guard.refuse(
                    f"returned {name} without a gradient, so nothing would be trained by it. Do not detach what depends on the "
                    "student, and leave gradients on"
                )
            if guard.boundary.first_step:
                self.check_values(guard, name, tensor.detach())

    def results(self, guard: Guard, result: object, tokens: int) -> Iterable[tuple[str, Tensor]]:
        """Return the returned tensors by name; raise unless each is a tensor of the right shape."""
        if not isinstance(result, Tensor):
            raise guard.refuse("returned no tensor but", result)
        if result.shape != (tokens,):
            raise guard.refuse(
                f"returned shape {list(result.shape)} for {tokens} tokens; it must be one number per token, [tokens]"
            )
        return [("losses", result)]

    def check_values(self, guard: Guard, name: str, tensor: Tensor) -> None:
        """Raise unless the values are finite."""
        bad = ~tensor.isfinite()
        if bool(bad.any()):
            raise guard.refuse(
                f"returned {name} that are not finite in the first step, for example", float(tensor[bad].flatten()[0])
            )


class _Weights(_TensorCheck):
    """Importance weights: no gradient, and not negative in any step."""

    keeps_gradient = False

    def results(self, guard: Guard, result: object, tokens: int) -> Iterable[tuple[str, Tensor]]:
        return [("weights", tensor) for _, tensor in super().results(guard, result, tokens)]

    def after(self, guard: Guard, call: Call, before: object, result: object) -> None:
        super().after(guard, call, before, result)
        assert isinstance(result, Tensor)
        values, boundary = result.detach(), guard.boundary
        if not values.numel():
            return
        lowest = values.min() if boundary.first_step else None
        shown = f", for example {float(lowest):g}" if lowest is not None else ""
        message = str(guard.refuse(f"returned negative weights{shown}; an importance weight is a probability ratio, 0 or more"))
        boundary.expect(message, ~(values < 0).any())


class _Projection(_TensorCheck):
    """Log-probs of student and teacher on a support."""

    def results(self, guard: Guard, result: object, tokens: int) -> Iterable[tuple[str, Tensor]]:
        if not isinstance(result, Projection):
            raise guard.refuse("returned no Projection but", result)
        pairs = [("student", result.student), ("teacher", result.teacher)]
        for name, tensor in pairs:
            if not isinstance(tensor, Tensor):
                raise guard.refuse(f"returned a Projection whose {name} is no tensor but", tensor)
            if tensor.ndim != 2 or tensor.shape[0] != tokens or not tensor.shape[1] or tensor.shape != result.student.shape:
                raise guard.refuse(
                    f"returned a Projection whose {name} has the shape {list(tensor.shape)} for {tokens} tokens; student and "
                    "teacher must both be [tokens, k]"
                )
        return pairs

    def check_values(self, guard: Guard, name: str, tensor: Tensor) -> None:
        bad = tensor.isnan() | (tensor > _ROUNDING)
        if bool(bad.any()):
            raise guard.refuse(f"returned {name} values that are no log-probs, for example", float(tensor[bad][0]))


class _Number(Check):
    """One number; finite in the first step."""

    def after(self, guard: Guard, call: Call, before: object, result: object) -> None:
        try:
            number = float(result) if isinstance(result, SupportsFloat) else None
        except (TypeError, ValueError, OverflowError, RuntimeError):
            number = None
        if number is None:
            raise guard.refuse("returned no number but", result)
        if guard.boundary.first_step and not math.isfinite(number):
            raise guard.refuse("returned in the first step", number)


class _Batch(Check):
    """The problems of a step: some, at most as many as were asked for, each id once."""

    def after(self, guard: Guard, call: Call, before: object, result: object) -> None:
        problems = _checked_problems(guard, result, "")
        if not problems:
            raise guard.refuse(f"returned no problem for step {call.named.get('step')}, so there is nothing to train on")
        count = call.named.get("count")
        if isinstance(count, int) and len(problems) > count:
            raise guard.refuse(f"returned {len(problems)} problems; {count} were asked for")


class _Suites(Check):
    """The problems of each suite by its name, each id once."""

    def after(self, guard: Guard, call: Call, before: object, result: object) -> None:
        if not isinstance(result, Mapping):
            raise guard.refuse("returned no mapping of problems by suite but", result)
        for name, problems in result.items():
            if not isinstance(name, str):
                raise guard.refuse("returned a suite whose name is no text but", name)
            _checked_problems(guard, problems, f" in suite {name!r}")


class _Networks(Check):
    """The networks of a teacher: at least one."""

    def entered(self, guard: Guard, value: object) -> None:
        if not isinstance(value, Sequence) or not all(isinstance(network, TeacherModel) for network in value):
            raise guard.refuse("yielded no sequence of TeacherModel but", value)
        if not value:
            raise guard.refuse("yielded no network, so there is no teacher to learn from. Yield at least one TeacherModel")
        for network in value:
            if not isinstance(network.model, torch.nn.Module):
                raise guard.refuse("yielded a TeacherModel whose model is no module but", network.model)
            if not (isinstance(network.share, (int, float)) and math.isfinite(network.share)):
                raise guard.refuse("yielded a TeacherModel with the share", network.share)


_CHECKS: dict[tuple[str, str], Check] = {
    ("task", "train_batch"): _Batch(),
    ("task", "suites"): _Suites(),
    ("teacher", "scoring"): _Networks(),
    ("support", "project"): _Projection(),
    ("divergence", "per_token"): _TensorCheck(),
    ("divergence", "sampled"): _TensorCheck(),
    ("correction", "weigh"): _Weights(),
    ("objective", "advantage"): _Number(),
    ("objective", "per_token"): _TensorCheck(),
}


def check_of(kind: str, method: str) -> Check | None:
    """Return the check of a method of a slot, if it has one."""
    return _CHECKS.get((kind, method))


def _checked_problems(guard: Guard, problems: object, where: str) -> Sequence[Problem]:
    if not isinstance(problems, Sequence) or isinstance(problems, str):
        raise guard.refuse(f"returned no list of problems{where} but", problems)
    for problem in problems:
        if not isinstance(problem, Problem):
            raise guard.refuse(f"returned among the problems{where}", problem)
    if twice := [id for id, count in Counter(problem.id for problem in problems).items() if count > 1]:
        raise guard.refuse(f"returned {len(twice)} ids{where} more than once, the first is", twice[0])
    return problems


def _tensors(call: Call) -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors among the arguments, also inside a dataclass, with their names or positions."""
    for name, value in [*enumerate(call.positional), *call.named.items()]:
        if isinstance(value, Tensor):
            yield str(name), value
        elif is_dataclass(value):
            for field in fields(value):
                inner = getattr(value, field.name)
                if isinstance(inner, Tensor):
                    yield field.name, inner
                elif isinstance(inner, tuple):
                    yield from ((f"{field.name}[{i}]", one) for i, one in enumerate(inner) if isinstance(one, Tensor))


def _version(tensor: Tensor) -> int:
    return 0 if tensor.is_inference() else tensor._version


def _equal(one: Tensor, other: Tensor) -> bool:
    """Return whether two tensors hold the same values; NaN equals itself."""
    return bool(torch.equal(one, other) or torch.equal(one.nan_to_num(), other.nan_to_num()))
