"""The laws of teachers, on a tiny real student: it scores without touching the student, and survives a resume."""

from __future__ import annotations

import importlib.util

import torch
from torch import Tensor

from rosd_kit.contracts import Teacher, TeacherModel
from rosd_kit.model.student import Student
from rosd_kit.testing.check import Bench, another, check, demand, does_not_apply
from rosd_kit.testing.student import tiny_student

_TEACHER_IDS = torch.tensor([[30, 31, 32, 40, 41, 42, 43]])
_STUDENT_IDS = torch.tensor([[33, 40, 41, 42, 43]])
_RESPONSE = 4


def _attached(teacher: Teacher) -> tuple[Teacher, Student]:
    """Return a new teacher with these options and the tiny student that it was attached to."""
    lora = "lora" in teacher.needs
    if lora and importlib.util.find_spec("peft") is None:
        raise does_not_apply('it needs LoRA, and peft is missing: pip install "rosd-kit[lora]"')
    fresh: Teacher = another(teacher)
    student = tiny_student(keep_initial=fresh.wants_initial(), lora=lora)
    fresh.attach(student)
    return fresh, student


def _logits(teacher: Teacher, student: Student) -> Tensor:
    """Return the teacher's logits over the response, as the engine sums them."""
    with teacher.scoring(student) as teacher_models:
        return sum((teacher_model.share * _one(teacher_model) for teacher_model in teacher_models), torch.zeros(()))


def _one(teacher_model: TeacherModel) -> Tensor:
    ids = _STUDENT_IDS if teacher_model.plain else _TEACHER_IDS
    with teacher_model.active() as model:
        found: Tensor = model(input_ids=ids).logits[0, -_RESPONSE - 1 : -1].clone()
        return found


def _trained(student: Student, seed: int) -> None:
    """Move the trained weights, as an optimizer step would."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in student.model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))


def _snapshot(student: Student) -> dict[str, Tensor]:
    return {name: parameter.detach().clone() for name, parameter in student.model.named_parameters()}


def _same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


@check("teacher")
def check_scores(teacher: Teacher, bench: Bench) -> None:
    """`scoring` yields at least one `TeacherModel` with a finite share; their logits are finite and carry no gradient."""
    teacher, student = _attached(teacher)
    with teacher.scoring(student) as teacher_models:
        demand(len(teacher_models) > 0, "scoring yields no teacher_model")
        for teacher_model in teacher_models:
            demand(isinstance(teacher_model, TeacherModel), f"{teacher_model!r} is no TeacherModel")
            demand(abs(teacher_model.share) < float("inf"), f"a teacher model's share is {teacher_model.share}")
            logits = _one(teacher_model)
            demand(torch.isfinite(logits).all(), "a teacher model's logits are not finite")
            demand(not logits.requires_grad, "a teacher model's logits carry a gradient")


@check("teacher")
def check_leaves_the_student_alone(teacher: Teacher, bench: Bench) -> None:
    """Attaching, scoring and `after_step` change neither the student's weights nor their gradients, flags and modes."""
    teacher, student = _attached(teacher)
    _trained(student, 1)
    before, flags = _snapshot(student), [p.requires_grad for p in student.model.parameters()]
    student.model.train()
    modes = [module.training for module in student.model.modules()]
    _logits(teacher, student)
    demand(_same(before, _snapshot(student)), "scoring changed the student's weights")
    demand(flags == [p.requires_grad for p in student.model.parameters()], "scoring changed which weights are trained")
    demand(
        modes == [module.training for module in student.model.modules()], "scoring changed the student's train or eval modes"
    )
    teacher.after_step(student)
    demand(_same(before, _snapshot(student)), "after_step changed the student's weights")


@check("teacher")
def check_the_student_trains_while_it_scores(teacher: Teacher, bench: Bench) -> None:
    """While `scoring` is open the student itself computes as ever, with gradient, before and after each use of a teacher model.

    What the teacher switches in shared modules belongs into `TeacherModel.guard`.
    """
    teacher, student = _attached(teacher)
    _trained(student, 1)
    teacher.after_step(student)
    _trained(student, 2)
    expected = student.model(input_ids=_STUDENT_IDS).logits.detach()
    with teacher.scoring(student) as teacher_models:
        for teacher_model in teacher_models:
            own = student.model(input_ids=_STUDENT_IDS).logits
            demand(torch.equal(own.detach(), expected), "the student computes something else while scoring is open")
            _one(teacher_model)
            own = student.model(input_ids=_STUDENT_IDS).logits
            demand(torch.equal(own.detach(), expected), "the student computes something else after a teacher model was used")
            own.sum().backward()
    trained = [p for p in student.model.parameters() if p.requires_grad]
    demand(trained and all(p.grad is not None for p in trained), "the student's weights get no gradient while scoring is open")


@check("teacher")
def check_state_makes_the_round_trip(teacher: Teacher, bench: Bench) -> None:
    """A new teacher that is given the `state_dict` scores as the old one did: a resumed run goes on bit for bit.

    The new one is attached to the initial weights; then student and teacher get the saved ones, as in a resume.
    """
    old, student = _attached(teacher)
    for seed in (1, 2):
        _trained(student, seed)
        old.after_step(student)
    state = {name: tensor.detach().clone() for name, tensor in old.state_dict().items()}
    demand(all(isinstance(name, str) for name in state), f"the state's names are {list(state)[:3]}")
    new, again = _attached(teacher)
    again.load_state(student.state())
    new.load_state_dict(state)
    demand(torch.equal(_logits(old, student), _logits(new, again)), "after a round trip of its state it scores differently")
    for one, its_student in ((old, student), (new, again)):
        _trained(its_student, 3)
        one.after_step(its_student)
    demand(
        torch.equal(_logits(old, student), _logits(new, again)), "a step after a round trip of its state it scores differently"
    )


@check("teacher")
def check_state_is_its_own(teacher: Teacher, bench: Bench) -> None:
    """Loading a state copies it: what the giver does with its tensors afterwards changes nothing."""
    teacher, student = _attached(teacher)
    _trained(student, 1)
    teacher.after_step(student)
    state = {name: tensor.detach().clone() for name, tensor in teacher.state_dict().items()}
    if not state:
        raise does_not_apply("it has no state")
    teacher.load_state_dict(state)
    expected = _logits(teacher, student)
    for tensor in state.values():
        tensor.add_(1)
    demand(torch.equal(_logits(teacher, student), expected), "the teacher changes with the tensors that it was given")
