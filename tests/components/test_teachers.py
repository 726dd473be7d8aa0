"""Teachers on a tiny real network: whose weights score, and that scoring leaves the student unchanged."""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from typing import Any

import peft
import pytest
import torch
from torch import Tensor, nn
from transformers import Qwen3Config, Qwen3ForCausalLM

from rosd_kit.components.corrections import NoCorrection
from rosd_kit.components.divergences import JSD
from rosd_kit.components.objectives import Distill, PolicyGradient
from rosd_kit.components.supports import Full
from rosd_kit.components.teachers import COMPONENTS, EMA, AdapterOff, Frozen, Interpolated, Live, Snapshot, TrustRegion
from rosd_kit.contracts import LossParts, Teacher, TeacherModel
from rosd_kit.errors import RunError
from rosd_kit.model.student import Student
from rosd_kit.recipe.built import WeightedObjective
from rosd_kit.settings import BatchSettings, LoraSettings, ModelSettings
from rosd_kit.training.chunked_loss import HeadLoss
from rosd_kit.training.step_loss import backward_step
from rosd_kit.types import DistillSample, TeacherView

IDS = torch.tensor([[3, 1, 4, 1, 5]])


def tiny_student(*, lora: bool = False, dtype: torch.dtype = torch.float32) -> Student:
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=13, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=1, head_dim=4, initializer_range=0.5, tie_word_embeddings=True, attention_dropout=0.5,
    )  # fmt: skip
    model: nn.Module = Qwen3ForCausalLM(config).to(dtype)
    if lora:
        model = peft.get_peft_model(model, peft.LoraConfig(r=2, target_modules="all-linear"))
    settings = ModelSettings(device="cpu", lora=LoraSettings(rank=2) if lora else None)
    student = Student(model, None, settings, keep_initial=True)
    student.model.train()
    return student


def move(student: Student, seed: int = 1) -> None:
    """Change every trainable weight, as an optimizer step would."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in student.model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.3 * torch.randn_like(parameter))


def logits(model: nn.Module) -> Tensor:
    training = [m for m in model.modules() if m.training]
    model.eval()
    with torch.no_grad():
        scores = model(input_ids=IDS).logits.float()
    for module in training:
        module.training = True
    return scores


def teacher_logits(teacher: Teacher, student: Student) -> Tensor:
    """Score as the training step does, and check that the student is unchanged afterwards."""
    before = {name: p.detach().clone() for name, p in student.model.named_parameters()}
    flags = [(m.training, *(p.requires_grad for p in m.parameters())) for m in student.model.modules()]
    total = torch.zeros(())
    with teacher.scoring(student) as teacher_models:
        for teacher_model in teacher_models:
            with teacher_model.active() as model:
                assert not any(m.training for m in model.modules())
                scores = model(input_ids=IDS).logits.float()
                assert not scores.requires_grad
            total = total + teacher_model.share * scores
    assert all(torch.equal(p, before[name]) for name, p in student.model.named_parameters())
    assert flags == [(m.training, *(p.requires_grad for p in m.parameters())) for m in student.model.modules()]
    return total


def attached(teacher: Teacher, student: Student) -> Teacher:
    teacher.attach(student)
    return teacher


def test_names_and_needs_of_the_built_in_teachers() -> None:
    capabilities = {c.name: (set(c.needs), c().wants_initial()) for c in COMPONENTS}
    assert capabilities == {
        "adapter_off": ({"lora"}, True),
        "ema": (set(), False),
        "frozen": (set(), True),
        "interpolated": (set(), True),
        "live": (set(), False),
        "snapshot": (set(), False),
        "trust_region": (set(), True),
    }
    assert Frozen().state_dict() == {}


@pytest.mark.parametrize("lora", [False, True])
def test_frozen_scores_with_the_initial_and_live_with_the_current_weights(lora: bool) -> None:
    student = tiny_student(lora=lora)
    initial = logits(student.model)
    frozen, live = attached(Frozen(), student), attached(Live(), student)
    move(student)
    assert not torch.allclose(logits(student.model), initial, atol=0.1)
    assert torch.equal(teacher_logits(frozen, student), initial)
    assert torch.equal(teacher_logits(live, student), logits(student.model))


def test_adapter_off_scores_with_the_base_model() -> None:
    student = tiny_student(lora=True)
    initial = logits(student.model)
    teacher = attached(AdapterOff(), student)
    move(student)
    assert torch.equal(teacher_logits(teacher, student), initial)


@pytest.mark.parametrize("lora", [False, True])
@pytest.mark.parametrize("alpha", [0.0, 0.25, 1.0])
def test_trust_region_is_a_lerp_of_logits(alpha: float, lora: bool) -> None:
    student = tiny_student(lora=lora)
    initial = logits(student.model)
    teacher = attached(TrustRegion(TrustRegion.Config(alpha=alpha)), student)
    move(student)
    expected = (1 - alpha) * initial + alpha * logits(student.model)
    torch.testing.assert_close(teacher_logits(teacher, student), expected)


@pytest.mark.parametrize("lora", [False, True])
def test_interpolated_mixes_the_initial_weights_with_and_without_privileged_text(lora: bool) -> None:
    student = tiny_student(lora=lora)
    initial = logits(student.model)
    teacher = attached(Interpolated(Interpolated.Config(share=0.25)), student)
    move(student)
    with teacher.scoring(student) as teacher_models:
        assert [(teacher_model.share, teacher_model.plain) for teacher_model in teacher_models] == [(0.25, False), (0.75, True)]
        for teacher_model in teacher_models:
            with teacher_model.active() as model:
                assert torch.equal(model(input_ids=IDS).logits.float(), initial)


@pytest.mark.parametrize("lora", [False, True])
def test_ema_averages_the_trainable_weights(lora: bool) -> None:
    student = tiny_student(lora=lora)
    expected = {n: p.detach().clone() for n, p in student.model.named_parameters() if p.requires_grad}
    initial = logits(student.model)
    teacher = attached(EMA(EMA.Config(rate=0.25)), student)
    assert torch.equal(teacher_logits(teacher, student), initial)
    for seed in (1, 2):
        move(student, seed)
        teacher.after_step(student)
        for name, parameter in student.model.named_parameters():
            if parameter.requires_grad:
                expected[name] = 0.75 * expected[name] + 0.25 * parameter.detach()
    state = teacher.state_dict()
    assert state.keys() == expected.keys() and all("lora_" in name or not lora for name in state)
    for name, value in expected.items():
        torch.testing.assert_close(state[name], value)
    reference = copy.deepcopy(student.model)
    reference.load_state_dict(expected, strict=False)
    torch.testing.assert_close(teacher_logits(teacher, student), logits(reference))


@pytest.mark.parametrize(("rate", "like"), [(0.0, Frozen), (1.0, Live)])
def test_ema_with_rate_0_is_frozen_and_with_rate_1_live(rate: float, like: type[Teacher]) -> None:
    student = tiny_student()
    teacher, other = attached(EMA(EMA.Config(rate=rate)), student), attached(like(), student)
    move(student)
    teacher.after_step(student)
    torch.testing.assert_close(teacher_logits(teacher, student), teacher_logits(other, student))


@pytest.mark.parametrize("lora", [False, True])
def test_a_snapshot_is_renewed_every_so_many_steps_and_after_a_resume_at_the_same_step(lora: bool) -> None:
    student = tiny_student(lora=lora)
    history = [logits(student.model)]
    teacher = attached(Snapshot(Snapshot.Config(every=2)), student)
    for number in range(1, 6):
        move(student, seed=number)
        teacher.after_step(student)
        history.append(logits(student.model))
        assert torch.equal(teacher_logits(teacher, student), history[number // 2 * 2])
        if number % 2:
            resumed = attached(Snapshot(Snapshot.Config(every=2)), student)
            resumed.load_state_dict({name: tensor.clone() for name, tensor in teacher.state_dict().items()})
            teacher = resumed
    assert all("lora_" in name or name == "snapshot.steps" or not lora for name in teacher.state_dict())


def test_a_snapshot_of_every_step_is_live_and_keeps_bfloat16() -> None:
    student = tiny_student(dtype=torch.bfloat16)
    teacher = attached(Snapshot(Snapshot.Config(every=1)), student)
    move(student)
    teacher.after_step(student)
    assert torch.equal(teacher_logits(teacher, student), logits(student.model))
    assert {tensor.dtype for name, tensor in teacher.state_dict().items() if name != "snapshot.steps"} == {torch.bfloat16}


def test_ema_averages_in_float32_for_a_bfloat16_student() -> None:
    """A small step is lost in bfloat16; the average must still arrive."""
    student = tiny_student(dtype=torch.bfloat16)
    teacher = attached(EMA(EMA.Config(rate=0.001)), student)
    move(student)
    for _ in range(3000):
        teacher.after_step(student)
    for name, parameter in student.model.named_parameters():
        average = teacher.state_dict()[name]
        assert average.dtype == torch.float32
        torch.testing.assert_close(average, parameter.detach().float(), atol=0.1, rtol=0)
    assert teacher_logits(teacher, student).isfinite().all()


def test_ema_refuses_another_models_state() -> None:
    teacher = attached(EMA(), tiny_student())
    with pytest.raises(RunError, match=r"ema state does not fit.*lora_A.*original model and lora settings"):
        teacher.load_state_dict(lora_state())


def lora_state() -> dict[str, Tensor]:
    return attached(EMA(), tiny_student(lora=True)).state_dict()


def test_ema_restores_the_weights_after_an_error() -> None:
    student = tiny_student()
    teacher = attached(EMA(), student)
    move(student)
    before = student.model.lm_head.weight.detach().clone()
    with teacher.scoring(student) as (teacher_model,), pytest.raises(ZeroDivisionError), teacher_model.active():
        assert not torch.equal(student.model.lm_head.weight, before)
        raise ZeroDivisionError
    assert torch.equal(student.model.lm_head.weight, before) and student.model.training


@pytest.mark.parametrize("lora", [False, True])
@pytest.mark.parametrize("teacher", [Frozen(), Live(), EMA(EMA.Config(rate=0.5)), TrustRegion()], ids=lambda t: t.name)
def test_a_teacher_that_shares_modules_does_not_change_the_gradient(teacher: Teacher, lora: bool) -> None:
    """A training step with a shared teacher gives the same as with separate copies of the networks."""
    student = tiny_student(lora=lora)
    teacher.attach(student)
    move(student)
    teacher.after_step(student)
    student.model.eval()
    with teacher.scoring(student) as teacher_models:
        copies = []
        for teacher_model in teacher_models:
            with teacher_model.active() as model:
                copies.append(frozen_copy(model, teacher_model.share))
        separate = step(student, tuple(copies))
        shared = step(student, teacher_models)
    assert shared[0] == pytest.approx(separate[0], abs=1e-7)
    for name, value in separate[1].items():
        torch.testing.assert_close(shared[1][name], value)


@pytest.mark.parametrize(
    ("teacher", "lora", "entered"),
    [(AdapterOff(), True, 1), (EMA(), True, 1), (Frozen(), True, 1), (Frozen(), False, 1), (EMA(), False, 5)],
    ids=["adapter_off", "ema-lora", "frozen-lora", "frozen", "ema"],
)
def test_the_guard_is_entered_for_every_chunk_of_logits_only_if_the_head_changes(
    teacher: Teacher, lora: bool, entered: int, monkeypatch
) -> None:
    """Each of the four tokens is a chunk; the states of all are one more entry. Under LoRA the head has no adapter here."""
    monkeypatch.setattr(HeadLoss, "_chunk_rows", lambda *_: 1)
    student = tiny_student(lora=lora)
    teacher.attach(student)
    count = 0

    def counted(guard: Callable[[], AbstractContextManager[object]]) -> AbstractContextManager[object]:
        nonlocal count
        count += 1
        return guard()

    with teacher.scoring(student) as teacher_models:
        watched = tuple(replace(one, guard=partial(counted, one.guard)) for one in teacher_models)
        step(student, watched)
    assert count == entered


def frozen_copy(model: nn.Module, share: float) -> TeacherModel:
    return TeacherModel(copy.deepcopy(model), share)


def step(student: Student, teacher_models: tuple[TeacherModel, ...]) -> tuple[float, dict[str, Tensor]]:
    response: dict[str, Any] = {
        "response_ids": (4, 5, 6, 7),
        "behaviour_logprobs": (-1.0,) * 4,
        "token_weights": (1.0,) * 4,
    }
    sample = DistillSample(
        problem_id="p",
        prompt_ids=(1, 2),
        teacher_views=(TeacherView(prompt_ids=(9, 8, 1, 2), source="s"),),
        reward=1.0,
        success=True,
        group_rewards=(1.0, 0.0),
        **response,
    )
    parts = LossParts(support=Full(), divergence=JSD(), correction=NoCorrection())
    report = backward_step(
        student=student.model,
        teacher_models=teacher_models,
        samples=[sample],
        objectives=[WeightedObjective(Distill(parts=parts)), WeightedObjective(PolicyGradient(), 0.1)],
        settings=BatchSettings(),
        pad_id=0,
    )
    gradients = {n: p.grad.clone() for n, p in student.model.named_parameters() if p.grad is not None}
    student.model.zero_grad(set_to_none=True)
    assert gradients
    return report.loss, gradients
