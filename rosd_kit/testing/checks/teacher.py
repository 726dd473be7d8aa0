"""The laws of teachers, checked on a tiny real student: scoring leaves the student unchanged, and state survives a resume."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from rosd_kit.contracts import Teacher, TeacherModel
from rosd_kit.testing.check import Bench, check, does_not_apply, rebuilt, require
from rosd_kit.testing.student import tiny_student

if TYPE_CHECKING:
    from rosd_kit.model.student import Student

_TEACHER_IDS = torch.tensor([[30, 31, 32, 40, 41, 42, 43]])
_STUDENT_IDS = torch.tensor([[33, 40, 41, 42, 43]])
_RESPONSE = 4


def _attached(teacher: Teacher) -> tuple[Teacher, Student]:
    """Return a new teacher with these options, and the tiny student that it is attached to."""
    lora = "lora" in teacher.needs
    if lora and importlib.util.find_spec("peft") is None:
        raise does_not_apply('it needs LoRA, and peft is missing: pip install "rosd-kit[lora]"')
    fresh = rebuilt(teacher)
    student = tiny_student(keep_initial=fresh.wants_initial(), lora=lora)
    fresh.attach(student)
    return fresh, student


def _logits(teacher: Teacher, student: Student) -> Tensor:
    """Return the teacher's logits over the response: the sum over its models, as the engine computes it."""
    with teacher.scoring(student) as teacher_models:
        return sum((teacher_model.share * _model_logits(teacher_model) for teacher_model in teacher_models), torch.zeros(()))


def _model_logits(teacher_model: TeacherModel) -> Tensor:
    """Return one teacher model's logits over the response, `[tokens, vocab]`."""
    ids = _STUDENT_IDS if teacher_model.plain else _TEACHER_IDS
    with teacher_model.active() as model:
        logits: Tensor = model(input_ids=ids).logits[0, -_RESPONSE - 1 : -1].clone()
        return logits


def _train(student: Student, seed: int) -> None:
    """Change the trainable weights, as an optimizer step would."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in student.model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))


def _snapshot(student: Student) -> dict[str, Tensor]:
    return {name: parameter.detach().clone() for name, parameter in student.model.named_parameters()}


def _equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


@check("teacher")
def check_scores(teacher: Teacher, bench: Bench) -> None:
    """`scoring` yields at least one `TeacherModel`, with a finite share and finite logits that carry no gradient."""
    teacher, student = _attached(teacher)
    with teacher.scoring(student) as teacher_models:
        require(len(teacher_models) > 0, "scoring yields no teacher model")
        for teacher_model in teacher_models:
            require(isinstance(teacher_model, TeacherModel), f"{teacher_model!r} is not a TeacherModel")
            require(abs(teacher_model.share) < float("inf"), f"a teacher model's share is {teacher_model.share}")
            logits = _model_logits(teacher_model)
            require(torch.isfinite(logits).all(), "a teacher model's logits are not finite")
            require(not logits.requires_grad, "a teacher model's logits carry a gradient")


@check("teacher")
def check_does_not_change_the_student(teacher: Teacher, bench: Bench) -> None:
    """Scoring and `after_step` do not change the student's weights; scoring keeps its `requires_grad` flags and train modes."""
    teacher, student = _attached(teacher)
    _train(student, 1)
    before, flags = _snapshot(student), [p.requires_grad for p in student.model.parameters()]
    student.model.train()
    modes = [module.training for module in student.model.modules()]
    _logits(teacher, student)
    require(_equal(before, _snapshot(student)), "scoring changed the student's weights")
    require(flags == [p.requires_grad for p in student.model.parameters()], "scoring changed the requires_grad flags")
    require(
        modes == [module.training for module in student.model.modules()], "scoring changed the student's train or eval modes"
    )
    teacher.after_step(student)
    require(_equal(before, _snapshot(student)), "after_step changed the student's weights")


@check("teacher")
def check_student_is_usable_while_scoring(teacher: Teacher, bench: Bench) -> None:
    """While `scoring` is open, the student computes the same outputs, with gradient, before and after each teacher model's use.

    If the teacher switches shared modules, it must do so in `TeacherModel.guard`.
    """
    teacher, student = _attached(teacher)
    _train(student, 1)
    teacher.after_step(student)
    _train(student, 2)
    expected = student.model(input_ids=_STUDENT_IDS).logits.detach()
    with teacher.scoring(student) as teacher_models:
        for teacher_model in teacher_models:
            logits = student.model(input_ids=_STUDENT_IDS).logits
            require(torch.equal(logits.detach(), expected), "the student's logits change while scoring is open")
            _model_logits(teacher_model)
            logits = student.model(input_ids=_STUDENT_IDS).logits
            require(torch.equal(logits.detach(), expected), "the student's logits change after a teacher model was used")
            logits.sum().backward()
    trainable = [p for p in student.model.parameters() if p.requires_grad]
    require(
        trainable and all(p.grad is not None for p in trainable), "the student's weights get no gradient while scoring is open"
    )


@check("teacher")
def check_state_round_trips(teacher: Teacher, bench: Bench) -> None:
    """A new teacher that loads the old one's `state_dict` scores the same: a resumed run continues bit for bit.

    As in a resume, the new teacher is attached to the initial weights before student and teacher load the saved state.
    """
    old, student = _attached(teacher)
    for seed in (1, 2):
        _train(student, seed)
        old.after_step(student)
    state = {name: tensor.detach().clone() for name, tensor in old.state_dict().items()}
    require(all(isinstance(name, str) for name in state), f"the keys of the state are not strings: {list(state)[:3]}")
    new, new_student = _attached(teacher)
    new_student.load_state(student.state())
    new.load_state_dict(state)
    require(torch.equal(_logits(old, student), _logits(new, new_student)), "after loading its own state it scores differently")
    for one, its_student in ((old, student), (new, new_student)):
        _train(its_student, 3)
        one.after_step(its_student)
    require(
        torch.equal(_logits(old, student), _logits(new, new_student)),
        "one step after loading its own state it scores differently",
    )


@check("teacher")
def check_state_is_copied(teacher: Teacher, bench: Bench) -> None:
    """Loading a state copies it: later changes of the loaded tensors do not change the teacher."""
    teacher, student = _attached(teacher)
    _train(student, 1)
    teacher.after_step(student)
    state = {name: tensor.detach().clone() for name, tensor in teacher.state_dict().items()}
    if not state:
        raise does_not_apply("it has no state")
    teacher.load_state_dict(state)
    expected = _logits(teacher, student)
    for tensor in state.values():
        tensor.add_(1)
    require(torch.equal(_logits(teacher, student), expected), "the teacher changes with the tensors that it loaded")
