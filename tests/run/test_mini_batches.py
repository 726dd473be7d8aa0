"""Mini-batches: how a step is cut, and that several updates equal the same updates made by hand."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch

from rosd_kit.components.objectives import PolicyGradient, SupervisedFineTuning
from rosd_kit.faults.boundary import Boundary
from rosd_kit.parallel.ranks import Ranks
from rosd_kit.recipe.built import WeightedObjective
from rosd_kit.run.mini_batches import cut_by_problems, joined_outcome
from rosd_kit.settings import BatchSettings, OptimizerSettings
from rosd_kit.testing import fake_sample, tiny_student
from rosd_kit.training.optimizer import Optimizer, StepOutcome
from rosd_kit.training.step_loss import backward_step


def samples_of(*problems: str) -> list:
    return [
        replace(
            fake_sample(length=3, token_weights=(1.0, 1.0, 1.0)),
            problem_id=problem,
            reward=float(index % 2),
            group_rewards=(0.0, 1.0),
            behaviour_logprobs=(-1.0, -2.0, -3.0),
        )
        for index, problem in enumerate(problems)
    ]


@pytest.mark.parametrize(
    ("count", "batches"),
    [(1, [[0, 1, 2, 3, 4]]), (2, [[0, 3], [1, 2, 4]]), (3, [[0, 3], [1], [2, 4]]), (9, [[0, 3], [1], [2, 4]])],
)
def test_the_samples_of_a_problem_stay_together(count, batches):
    assert cut_by_problems(samples_of("a", "b", "c", "a", "c"), count) == batches


def test_an_outcome_is_applied_only_if_every_update_was():
    one = StepOutcome(applied=True, grad_norm=1.0, lr=0.1, change=0.5)
    joined = joined_outcome([one, StepOutcome(applied=False, grad_norm=3.0, lr=0.1, change=0.0)])
    assert joined == StepOutcome(applied=False, grad_norm=2.0, lr=0.1, change=0.5)
    assert joined_outcome([one]) == one


class Parts:
    """What `update` reads of a recipe and of built components."""

    def __init__(self, updates: int, objective: object, teacher: object, localizer: object, correction: object) -> None:
        self.optimizer = OptimizerSettings(lr=0.01, warmup_steps=0, updates_per_batch=updates)
        self.batch = BatchSettings()
        self.sampling = type("Sampling", (), {"temperature": 1.0})
        self.objectives = (WeightedObjective(objective),)
        self.teacher, self.localizer, self.correction = teacher, localizer, correction
        self.boundary = Boundary()


@pytest.mark.parametrize("cap", [None, 1.5])
def test_two_updates_per_batch_equal_two_updates_with_the_log_probs_of_sampling(cap):
    """The second update's ratio is to the policy before the first: checked against a loss written out by hand."""
    from rosd_kit.components.corrections import NoCorrection
    from rosd_kit.components.localizers import Full
    from rosd_kit.components.teachers import Live
    from rosd_kit.run.update import update

    student = tiny_student(keep_initial=False)
    student.model.double()  # Adam makes whole steps of rounding errors
    by_hand = copy.deepcopy(student.model)
    start_weights = {name: parameter.detach().clone() for name, parameter in by_hand.named_parameters()}
    samples = samples_of("a", "a", "b", "b")
    parts = Parts(2, PolicyGradient(PolicyGradient.Config(importance_cap=cap)), Live(), Full(), NoCorrection())
    optimizer = Optimizer(student.model, parts.optimizer, steps=5)
    done = update(samples, recipe=parts, student=student, components=parts, optimizer=optimizer, ranks=Ranks.alone("cpu"))
    assert optimizer.step_count == 1 and done.metrics["train/applied"] == 1.0

    def log_probs(model, sample):
        ids = torch.tensor([[*sample.prompt_ids, *sample.response_ids]])
        logp = model(input_ids=ids).logits[0, len(sample.prompt_ids) - 1 : -1].log_softmax(-1)
        return logp.gather(1, torch.tensor(sample.response_ids)[:, None]).squeeze(1)

    with torch.no_grad():
        old = [log_probs(by_hand, sample) for sample in samples]
    adam = torch.optim.AdamW(by_hand.parameters(), lr=0.01, betas=(0.9, 0.999), weight_decay=0.01)
    for batch in ((0, 1), (2, 3)):
        losses = []
        for index in batch:
            sampling = torch.tensor(samples[index].behaviour_logprobs, dtype=torch.float64)
            gap = (samples[index].reward - 0.5) / (0.5**0.5 + 1e-6)
            start = sampling if cap is None else old[index]
            ratio = (log_probs(by_hand, samples[index]) - start).exp()
            loss = -torch.minimum(ratio * gap, ratio.clamp(0.8, 1.28) * gap)
            losses.append(loss if cap is None else loss * (old[index] - sampling).exp().clamp(max=cap))
        adam.zero_grad()
        torch.cat(losses).mean().backward()
        torch.nn.utils.clip_grad_norm_(by_hand.parameters(), 1.0)
        adam.step()
    trained = dict(student.model.named_parameters())
    for name, parameter in by_hand.named_parameters():
        assert not torch.equal(parameter, start_weights[name])
        torch.testing.assert_close(trained[name], parameter, atol=1e-6, rtol=1e-5)


def test_a_term_with_the_denominator_all_counts_by_its_share_of_the_tokens():
    """9 tokens of one term and 1 of another: means m1 and m2 give 0.9 m1 + 0.1 m2, and m1 + m2 with the denominator `own`."""
    student = tiny_student(keep_initial=False)
    long = replace(fake_sample(length=9), route="policy_gradient", reward=1.0, group_rewards=(0.0, 1.0))
    short = replace(fake_sample(length=1), route="sft", success=True)

    def loss(by_share: bool) -> tuple[float, dict[str, float]]:
        terms = [WeightedObjective(PolicyGradient(), 1.0, by_share), WeightedObjective(SupervisedFineTuning(), 1.0, by_share)]
        report = backward_step(
            student=student.model, teacher_models=(), samples=[long, short], objectives=terms, settings=BatchSettings(),
            pad_id=0, backward=False,
        )  # fmt: skip
        return report.loss, dict(report.terms)

    total, own = loss(False)
    assert total == pytest.approx(own["policy_gradient"] + own["sft"])
    assert loss(True)[0] == pytest.approx(0.9 * own["policy_gradient"] + 0.1 * own["sft"])
