"""The teacher `beta_opsd`: the laws of its slot, its target, and a short run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from rosd_kit_beta_opsd import BetaTeacher

import rosd_kit as rk
from rosd_kit.testing import parametrize_with_checks, tiny_student

RECIPE = Path(__file__).parents[1] / "recipe.yaml"
TEACHER_IDS = torch.tensor([[30, 31, 32, 40, 41]])
STUDENT_IDS = torch.tensor([[33, 40, 41]])


def beta_opsd(**options: object) -> BetaTeacher:
    return BetaTeacher(BetaTeacher.Config(**options))


def logits_of(teacher_model: rk.TeacherModel) -> torch.Tensor:
    with teacher_model.active() as model:
        ids = STUDENT_IDS if teacher_model.plain else TEACHER_IDS
        result: torch.Tensor = model(input_ids=ids).logits[0, -2:].double().clone()
        return result


def trained_student() -> rk.Student:
    """Return a student whose weights differ from its initial ones."""
    student = tiny_student(keep_initial=True)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in student.model.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    return student


def target(teacher: rk.Teacher, student: rk.Student) -> torch.Tensor:
    """Return the target distribution, computed from the teacher models as the engine does."""
    with teacher.scoring(student) as teacher_models:
        return sum((model.share * logits_of(model) for model in teacher_models), torch.zeros(())).softmax(-1)


@parametrize_with_checks(
    [
        BetaTeacher(),
        beta_opsd(beta=1.0),
        beta_opsd(beta=0.5),
        beta_opsd(informed="live"),
        beta_opsd(share=0.8, reference="current_student"),
    ]
)
def test_conformance(component, check):
    check(component)


@pytest.mark.parametrize("informed", ["frozen", "live"])
@pytest.mark.parametrize("beta", [0.5, 1.0, 2.0, 10.0])
def test_the_target_is_the_geometric_mixture(beta, informed):
    """ref^(1 - 1/beta) T^(1/beta), normalised, computed here from probabilities."""
    student, initial = trained_student(), tiny_student(keep_initial=False).model
    reader = student.model if informed == "live" else initial
    with torch.no_grad():
        informed_probs = reader(input_ids=TEACHER_IDS).logits[0, -2:].double().softmax(-1)
        reference = initial(input_ids=STUDENT_IDS).logits[0, -2:].double().softmax(-1)
    mixed = reference ** (1 - 1 / beta) * informed_probs ** (1 / beta)
    expected = mixed / mixed.sum(-1, keepdim=True)
    torch.testing.assert_close(target(beta_opsd(beta=beta, informed=informed), student), expected, atol=1e-6, rtol=1e-4)


def test_beta_1_needs_no_reference_pass():
    student = trained_student()
    with beta_opsd(beta=1.0).scoring(student) as teacher_models:
        assert [(teacher_model.share, teacher_model.plain) for teacher_model in teacher_models] == [(1.0, False)]
    with beta_opsd(beta=4.0).scoring(student) as teacher_models:
        assert [(teacher_model.share, teacher_model.plain) for teacher_model in teacher_models] == [(0.25, False), (0.75, True)]


def test_the_reference_may_be_the_current_student_and_the_share_may_be_written_directly():
    """T^0.8 S^0.2 with T from the initial weights and S from the student's current ones, on its own prompt."""
    student, initial = trained_student(), tiny_student(keep_initial=False).model
    with torch.no_grad():
        informed = initial(input_ids=TEACHER_IDS).logits[0, -2:].double().softmax(-1)
        current = student.model(input_ids=STUDENT_IDS).logits[0, -2:].double().softmax(-1)
    mixed = informed**0.8 * current**0.2
    teacher = beta_opsd(share=0.8, reference="current_student")
    torch.testing.assert_close(target(teacher, student), mixed / mixed.sum(-1, keepdim=True), atol=1e-6, rtol=1e-4)
    assert not beta_opsd(reference="current_student", informed="live").wants_initial()


def test_the_target_maximises_the_regularised_reward():
    """No other distribution has a larger E[log T - log ref] - beta KL(. || ref), the paper's objective."""
    torch.manual_seed(0)
    beta = 3.0
    informed, reference = torch.randn(2, 7, dtype=torch.float64).softmax(-1)
    best = (reference ** (1 - 1 / beta) * informed ** (1 / beta)).log().log_softmax(-1)

    def objective(logp: torch.Tensor) -> float:
        reward = informed.log() - reference.log()
        return float((logp.exp() * (reward - beta * (logp - reference.log()))).sum())

    others = [(best + 0.3 * torch.randn(7, dtype=torch.float64)).log_softmax(-1) for _ in range(200)]
    assert all(objective(other) < objective(best) for other in others)


def test_a_short_run_trains_on_every_token(short_run):
    run = short_run(RECIPE)
    assert all(step["train/loss"] != 0 and step["train/grad_norm"] > 0 for step in run.steps)
    assert run.total("train/weighted_tokens") == sum(len(record["token_ids"]) for record in run.samples)


def test_each_step_of_a_resumed_run_has_its_own_share(parted_run, monkeypatch):
    """The authors' schedule of the teacher's weight, .5 to .8, here over 3 steps: what is scored with, and the metrics."""
    seen: list[tuple[float, ...]] = []
    scoring = BetaTeacher.scoring

    @contextmanager
    def noted(self: BetaTeacher, student: rk.Policy) -> Iterator[tuple[rk.TeacherModel, ...]]:
        with scoring(self, student) as teacher_models:
            seen.append(tuple(model.share for model in teacher_models))
            yield teacher_models

    monkeypatch.setattr(BetaTeacher, "scoring", noted)
    schedule = "teacher.share={from: 0.5, to: 0.8, steps: 3}"
    metrics = parted_run(RECIPE, schedule, "teacher.reference=current_student", stop=2, steps=5)
    curve = [0.5, 0.6, 0.7, 0.8, 0.8]
    assert [line["schedule/teacher.share"] for line in metrics] == pytest.approx(curve)
    assert list(dict.fromkeys(seen)) == [pytest.approx((share, 1 - share)) for share in curve[:4]]
    assert all(line["train/applied"] == 1.0 and line["train/loss"] != 0 for line in metrics)
