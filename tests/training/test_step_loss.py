"""The step loss against a slow reference: every sample alone, unpadded, full logits, one ordinary backward pass."""

from __future__ import annotations

import copy
import math
import random
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import (
    Qwen3Config,
    Qwen3ForCausalLM,
)

from rosd_kit.components.corrections import NoCorrection, Truncated
from rosd_kit.components.divergences import JSD, ReverseKL
from rosd_kit.components.localizers import TopDivergence
from rosd_kit.components.objectives import Distill, PolicyGradient, SupervisedFineTuning
from rosd_kit.components.supports import Sampled, StudentTopK
from rosd_kit.contracts import LossParts, TeacherModel, TokenScores
from rosd_kit.errors import RunError
from rosd_kit.model.packing import TokenSequence, build_layout
from rosd_kit.model.split import split_model
from rosd_kit.model.split_check import check_split
from rosd_kit.parallel.ranks import Ranks
from rosd_kit.recipe.built import WeightedObjective
from rosd_kit.settings import BatchSettings
from rosd_kit.training.chunked_loss import HeadLoss
from rosd_kit.training.loss_report import TokenResults
from rosd_kit.training.refine_weights import refine_weights
from rosd_kit.training.step_loss import LossReport, backward_step
from rosd_kit.training.teacher import TeacherScorer
from rosd_kit.training.token_weights import WeightedTokens, compute_weights, weighted_tokens
from rosd_kit.types import DistillSample, TeacherView
from tests.training.networks import SHAPE, VOCAB, cohere, frozen_head, gemma, granite, lora, lora_on_the_head, phi, qwen

PARTS = LossParts(
    support=StudentTopK(StudentTopK.Config(k=10)), divergence=JSD(), correction=Truncated(Truncated.Config(cap=1.2))
)


MODELS = [qwen, frozen_head, phi, gemma, lora, lora_on_the_head, granite, cohere]

#: Gemma's softmax and Cohere's layer norm compute in float32 even in a float64 model. So do all norms of the others,
#: which shows where a prefix is shared: there the gradients of all that go on from it are rounded together.
ROUNDING = {gemma: 1e-6, cohere: 1e-8, phi: 1e-8}


def samples(count: int = 9) -> list[DistillSample]:
    """Return samples of many lengths, three per problem, with 0 to 2 teacher views and every route."""
    rng = random.Random(1)

    def ids(low: int, high: int) -> tuple[int, ...]:
        return tuple(rng.randrange(1, VOCAB) for _ in range(rng.randint(low, high)))

    built = []
    problems = [ids(9, 14) for _ in range(-(-count // 3))]
    for index in range(count):
        response, problem = ids(1, 12), problems[index // 3]
        built.append(
            DistillSample(
                problem_id=str(index // 3),
                prompt_ids=problem + ids(1, 2),
                response_ids=response,
                behaviour_logprobs=tuple(-4 * rng.random() for _ in response),
                token_weights=tuple(rng.choice([0.0, 0.5, 1.0]) for _ in response),
                teacher_views=tuple(
                    TeacherView(prompt_ids=problem + ids(0, 8), source="s") for _ in range((1, 2, 0, 1)[index % 4])
                ),
                reward=float(index % 2),
                success=index % 2 == 1,
                group_rewards=(0.0, 1.0, 1.0),
                weight=1.0 + index % 3,
                route=("*", "*", "*", "distill", "policy_gradient")[index % 5],
            )
        )
    return built


def terms() -> list[WeightedObjective]:
    return [
        WeightedObjective(Distill(parts=PARTS), 1.0),
        WeightedObjective(PolicyGradient(PolicyGradient.Config(normalise="sequence")), 0.3),
        WeightedObjective(SupervisedFineTuning(), 0.1),
    ]


def response_logits(model: nn.Module, prompt: Sequence[int], response: Sequence[int]) -> Tensor:
    logits = model(input_ids=torch.tensor([[*prompt, *response]])).logits[0]
    return logits[len(prompt) - 1 : -1]


def reference(
    student: nn.Module,
    teacher_models: Sequence[TeacherModel],
    data: Sequence[DistillSample],
    objectives: Sequence[WeightedObjective],
    temperature: float,
) -> Tensor:
    """Return the loss, with its graph, straight from the definition."""
    numerators = [torch.zeros((), dtype=torch.float64) for _ in objectives]
    denominators = [0.0 for _ in objectives]
    for sample in data:
        logits = response_logits(student, sample.prompt_ids, sample.response_ids)
        sampled = torch.tensor(sample.response_ids)
        current = (logits / temperature).log_softmax(-1).gather(1, sampled[:, None])[:, 0]
        teachers: list[Tensor | None] = []
        for view in sample.teacher_views:
            mixed = torch.zeros(())
            for teacher_model in teacher_models:
                prompt = sample.prompt_ids if teacher_model.plain else view.prompt_ids
                with teacher_model.active() as model:
                    mixed = mixed + teacher_model.share * response_logits(model, prompt, sample.response_ids)
            teachers.append(mixed.log_softmax(-1))
        for index, term in enumerate(objectives):
            weights = torch.tensor(term.objective.token_weights(sample), dtype=torch.float64)
            if not weights.any():
                continue
            views = teachers if term.objective.needs_teacher else [None]
            advantage = torch.full_like(current, term.objective.advantage(sample))
            behaviour = torch.tensor(sample.behaviour_logprobs, dtype=torch.float64)
            denominators[index] += float(weights.sum())
            if term.objective.joins_views:
                marks = torch.tensor(term.objective.view_marks(sample), dtype=torch.float64)[:, None].expand(-1, len(sampled))
                scores = TokenScores(
                    logits.log_softmax(-1), None, sampled, behaviour, current, advantage, tuple(teachers), marks
                )
                numerators[index] = numerators[index] + (weights * term.objective.per_token(scores)).sum()
                continue
            for teacher in views:
                scores = TokenScores(logits.log_softmax(-1), teacher, sampled, behaviour, current, advantage)
                numerators[index] = numerators[index] + (weights * term.objective.per_token(scores)).sum() / len(views)
    total = torch.zeros((), dtype=torch.float64)
    for term, numerator, denominator in zip(objectives, numerators, denominators, strict=True):
        total = total + term.weight * numerator / denominator
    return total


def gradients(model: nn.Module) -> dict[str, Tensor]:
    computed = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad(set_to_none=True)
    return computed


def engine(model: nn.Module, teacher_models: Sequence[TeacherModel], tokens: int = 64, **changes: Any) -> LossReport:
    values: dict[str, Any] = {
        "samples": samples(),
        "objectives": terms(),
        "settings": BatchSettings(tokens=tokens, chunk_mib=1, layout="padded"),
        "pad_id": 0,
        **changes,
    }
    return backward_step(student=model, teacher_models=teacher_models, **values)


def two_teachers() -> tuple[TeacherModel, TeacherModel]:
    return TeacherModel(qwen(5), 0.75), TeacherModel(qwen(6), 0.25, plain=True)


@cache
def expected_of(make: Callable[[], nn.Module], temperature: float) -> tuple[float, dict[str, Tensor]]:
    """Return the reference's loss and gradients, which no layout changes."""
    student = make()
    loss = reference(student, two_teachers(), samples(), terms(), temperature)
    loss.backward()
    return loss.item(), gradients(student)


def assert_same(computed: dict[str, Tensor], expected: dict[str, Tensor], atol: float = 1e-12) -> None:
    assert computed.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(computed[name], value, atol=atol, rtol=1e-9, msg=lambda text, n=name: f"{n}: {text}")


@pytest.mark.parametrize("make", MODELS)
@pytest.mark.parametrize(("temperature", "layout"), [(1.0, "auto"), (0.7, "padded"), (0.7, "packed"), (0.7, "shared")])
def test_loss_and_gradient_equal_the_reference_however_the_step_is_cut(
    make: Any, temperature: float, layout: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    student = make()
    if layout == "shared" and not split_model(student).can_share_prefixes:
        pytest.skip("its attention does not allow it")
    teacher_models = two_teachers()
    loss, expected = expected_of(make, temperature)
    for tokens, rows, tile in [(1, 1, 1), (40, 3, 2), (64, 1000, 5), (10_000, 7, 100), (10_000, 1000, 1000)]:
        monkeypatch.setattr(
            "rosd_kit.training.chunked_loss.HeadLoss._chunk_rows", lambda self, hidden, teacher, rows=rows: rows
        )
        monkeypatch.setattr("rosd_kit.training.chunked_loss._tile_rows", lambda raw, rows=tile: rows)
        settings = BatchSettings(tokens=tokens, layout=layout)
        report = engine(student, teacher_models, settings=settings, temperature=temperature)
        atol = max(ROUNDING.get(make, 1e-12), 1e-7 if layout in ("auto", "shared") else 0.0)
        assert report.loss == pytest.approx(loss, abs=ROUNDING.get(make, 1e-12))
        assert_same(gradients(student), expected, atol=atol)


def test_the_largest_known_vocabulary(monkeypatch: pytest.MonkeyPatch) -> None:
    """262,144 entries, like Gemma 3; chunks and tiles hold one token each, and top-k runs in two stages."""
    monkeypatch.setattr("rosd_kit.training.chunked_loss.tile_bytes", lambda device_type: 1)
    sizes = {"vocab_size": 262_144, "hidden_size": 8, "intermediate_size": 8, "initializer_range": 2.0}
    student, teacher = (qwen(seed, **sizes) for seed in (0, 5))
    parts = LossParts(support=StudentTopK(StudentTopK.Config(k=10)), divergence=JSD(), correction=NoCorrection())
    data, objectives = samples()[:2], [WeightedObjective(Distill(parts=parts))]
    loss = reference(student, (TeacherModel(teacher),), data, objectives, 1.0)
    loss.backward()
    expected = gradients(student)
    report = engine(student, (TeacherModel(teacher),), samples=data, objectives=objectives)
    assert report.loss == pytest.approx(loss.item(), abs=1e-12) and report.loss > 0.01
    assert_same(gradients(student), expected)


class HostWaits(TorchDispatchMode):
    """Records the operations that make the host wait for a GPU, with the dtypes of their inputs."""

    BLOCKING = ("aten::_local_scalar_dense", "aten::nonzero", "aten::equal", "aten::is_nonzero", "aten::masked_select")

    def __init__(self) -> None:
        super().__init__()
        self.waits: set[tuple[str, torch.dtype]] = set()
        self.operations = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.operations += 1
        if func.name().split(".")[0] in self.BLOCKING:
            self.waits.add((func.name(), args[0].dtype))
        return func(*args, **(kwargs or {}))


def head_loss(device: str = "cpu") -> tuple[HeadLoss, Tensor, list[list[Tensor]], WeightedTokens]:
    """Return a float32 head loss with three terms, and its inputs for one micro-batch."""
    student, teacher = qwen().float().to(device), qwen(5).float().to(device)
    data, objectives = samples(), terms()
    step = compute_weights(data, objectives)
    tokens = weighted_tokens(data, step.per_sample, step.advantages, objectives)
    settings = BatchSettings()
    scorer = TeacherScorer([TeacherModel(teacher)], settings=settings, pad_id=0, samples=data)
    with torch.no_grad():
        teacher_states = scorer.states(data, tokens)
    head = HeadLoss(
        student=split_model(student), teacher=scorer, terms=tuple(objectives), factors=torch.ones(3, dtype=torch.float64),
        chunk_bytes=1 << 20, temperature=0.7,
    )  # fmt: skip
    return head, torch.randn(len(tokens), 32, device=device, requires_grad=True), teacher_states, tokens


def test_the_loss_reads_nothing_back_from_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only token lists are inspected, which are float64 or bool on the host; never the model's float32."""
    monkeypatch.setattr("rosd_kit.training.chunked_loss._tile_rows", lambda raw: 7)
    head, hidden, teacher_states, tokens = head_loss()
    with HostWaits() as waits:
        head.differentiate(hidden, teacher_states, tokens)
    assert waits.operations > 500 and ("aten::nonzero", torch.float64) in waits.waits
    assert waits.waits <= {("aten::nonzero", torch.float64), ("aten::nonzero", torch.bool)}


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_loss_never_waits_for_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """CUDA itself refuses every synchronisation except the one for the results, once per micro-batch."""
    monkeypatch.setattr("rosd_kit.training.chunked_loss._tile_rows", lambda raw: 7)
    head, hidden, teacher_states, tokens = head_loss("cuda")
    head.differentiate(hidden, teacher_states, tokens)
    to_cpu = TokenResults.to_cpu

    def waiting(self: TokenResults) -> TokenResults:
        torch.cuda.set_sync_debug_mode("default")
        return to_cpu(self)

    monkeypatch.setattr(TokenResults, "to_cpu", waiting)
    torch.cuda.set_sync_debug_mode("error")
    try:
        loss, _ = head.differentiate(hidden, teacher_states, tokens)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.isfinite(loss)


class Contrast(PolicyGradient):
    """Rewards what the first view finds likelier than the others, and pulls towards it; not a sum over single views."""

    name = "contrast"
    joins_views = True

    def view_marks(self, sample: DistillSample) -> Sequence[float]:
        return [2.0, *[-1.0] * (len(sample.teacher_views) - 1)] if sample.teacher_views else []

    def per_token(self, scores: TokenScores) -> Tensor:
        plain = self.surrogate(scores, scores.advantage)
        if not scores.views:
            return plain
        assert scores.marks is not None and scores.teacher is None
        gap = (scores.marks * scores.view_logprobs()).sum(0)
        pull = (scores.views[0].exp() * scores.student).sum(-1)
        return torch.where(scores.marks[0] > 0, plain * gap.tanh() - pull, plain)


def test_an_objective_can_see_all_views_of_a_token_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also for tokens with fewer views than others, or none, and beside terms that see one view at a time."""
    student, teacher_models = qwen(), (TeacherModel(qwen(5), 0.75), TeacherModel(qwen(6), 0.25, plain=True))
    objectives = [WeightedObjective(Contrast(), 0.7), *terms()[:2]]
    loss = reference(student, teacher_models, samples(), objectives, 0.7)
    loss.backward()
    expected = gradients(student)
    for tokens, rows, tile in [(1, 1, 1), (64, 1000, 5), (10_000, 7, 3), (10_000, 1000, 1000)]:
        monkeypatch.setattr(
            "rosd_kit.training.chunked_loss.HeadLoss._chunk_rows", lambda self, hidden, teacher, rows=rows: rows
        )
        monkeypatch.setattr("rosd_kit.training.chunked_loss._tile_rows", lambda raw, rows=tile: rows)
        report = engine(student, teacher_models, tokens, objectives=objectives, temperature=0.7)
        assert report.loss == pytest.approx(loss.item(), abs=1e-12)
        assert_same(gradients(student), expected)
    assert report.terms["contrast"] != pytest.approx(
        engine(student, teacher_models, objectives=terms()).terms["policy_gradient"]
    )


def test_padding_under_a_sliding_window_does_no_harm() -> None:
    """Rows of padding longer than the window must not turn into NaN and reach the tokens."""
    parts = split_model(gemma())
    long, short = TokenSequence(tuple(range(1, 25)), (30,)), TokenSequence((1, 2, 3), (30,))
    states, alone = (parts.hidden(build_layout(sequences, pad_id=0, mode="padded")) for sequences in ([long, short], [short]))
    torch.testing.assert_close(states[1, :3], alone[0], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("make", MODELS)
def test_head_and_backbone_reproduce_the_model(make: Any) -> None:
    check_split(make())


def test_an_unknown_postprocessing_of_logits_is_refused() -> None:
    class Odd(Qwen3ForCausalLM):
        def forward(self, *args: Any, **kwargs: Any) -> Any:
            output = super().forward(*args, **kwargs)
            output.logits = output.logits * 1.5
            return output

    with pytest.raises(RunError, match=r"model\.path: Odd"):
        check_split(Odd(Qwen3Config(**SHAPE, head_dim=8)))


def test_attention_outside_transformers_interface_is_not_used_with_shared_prefixes() -> None:
    """Remote code or patched layers may bypass the interface; such attention does not know the prefix tree."""
    student = qwen()
    for layer in student.model.layers:
        own = layer.self_attn
        own.config = copy.deepcopy(own.config)
    found = r"batch\.layout: Qwen3ForCausalLM gives different logits when sequences share a prefix .*"
    with pytest.raises(RunError, match=f"{found} Use padded"):
        check_split(student, "shared")
    note = check_split(student)
    assert note is not None and re.match(f"{found} This run pads instead", note)
    assert split_model(student).layout_mode("auto") == "padded"
    with pytest.raises(RunError, match=r"batch\.layout: 'shared' changes the logits of Qwen3Model. Use auto or padded"):
        split_model(student).layout_mode("shared")
    assert check_split(student, "padded") is None


def test_logits_are_float32_from_a_narrow_model() -> None:
    parts = split_model(qwen().bfloat16())
    assert parts.logits(torch.zeros(1, 32, dtype=torch.bfloat16)).dtype == torch.float32


def test_a_head_trains_over_a_frozen_backbone() -> None:
    """No gradient flows below the head, and the head's own is complete."""
    student, teacher_models = qwen(tie_word_embeddings=False), (TeacherModel(qwen(5)),)
    student.model.requires_grad_(False)
    loss = reference(student, teacher_models, samples(), terms(), 1.0)
    loss.backward()
    expected = gradients(student)
    assert list(expected) == ["lm_head.weight"]
    assert engine(student, teacher_models).loss == pytest.approx(loss.item(), abs=1e-12)
    assert_same(gradients(student), expected)


def test_sampled_support_equals_the_reference() -> None:
    student, teacher_models = qwen(), (TeacherModel(qwen(5)),)
    parts = LossParts(support=Sampled(), divergence=ReverseKL(), correction=Truncated())
    objectives = [WeightedObjective(Distill(parts=parts))]
    loss = reference(student, teacher_models, samples(), objectives, 1.0)
    loss.backward()
    expected = gradients(student)
    assert engine(student, teacher_models, objectives=objectives).loss == pytest.approx(loss.item(), abs=1e-12)
    assert_same(gradients(student), expected)


def test_the_order_of_samples_does_not_matter() -> None:
    student, teacher_models = qwen(), (TeacherModel(qwen(5)),)
    first = engine(student, teacher_models)
    expected = gradients(student)
    second = engine(student, teacher_models, samples=samples()[::-1])
    assert second.loss == pytest.approx(first.loss, abs=1e-12)
    for mine, other in zip(first.scores, second.scores[::-1], strict=True):
        assert vars(other) == {name: pytest.approx(values, abs=1e-12) for name, values in vars(mine).items()}
    assert_same(gradients(student), expected)


def test_gradients_add_to_existing_ones() -> None:
    student, teacher_models = qwen(), (TeacherModel(qwen(5)),)
    engine(student, teacher_models)
    once = gradients(student)
    engine(student, teacher_models)
    engine(student, teacher_models)
    assert_same(gradients(student), {name: 2 * value for name, value in once.items()})


def test_the_report_equals_direct_measurements() -> None:
    student, data = qwen(), samples()
    weighted = [(i, t) for i, s in enumerate(data) for t, w in enumerate(Distill().token_weights(s)) if w]
    report = engine(student, (TeacherModel(qwen(5)),), samples=data, objectives=terms()[:1], temperature=0.7)
    entropies, gaps = [], []
    for index, token in weighted:
        with torch.no_grad():
            logits = response_logits(student, data[index].prompt_ids, data[index].response_ids)[token]
        entropies.append(torch.distributions.Categorical(logits=logits).entropy())
        current = (logits / 0.7).log_softmax(-1)[data[index].response_ids[token]]
        gaps.append(current - data[index].behaviour_logprobs[token])
    assert report.tokens == len(weighted) > 10
    assert report.entropy == pytest.approx(torch.stack(entropies).mean().item())
    assert report.mismatch == pytest.approx(torch.stack(gaps).abs().mean().item())
    assert report.ratio_mean == pytest.approx(torch.stack(gaps).exp().mean().item())
    assert report.ratio_max == pytest.approx(torch.stack(gaps).exp().max().item())
    assert report.terms == {"distill": pytest.approx(report.loss)}
    weights = [term for s in data for term in Distill().token_weights(s)]
    losses = [loss for scores in report.scores for loss in scores.divergence]
    mean = sum(w * x for w, x in zip(weights, losses, strict=True)) / sum(weights)
    assert mean == pytest.approx(report.loss, abs=1e-12)
    assert {(i, t) for i, row in enumerate(report.scores) for t, x in enumerate(row.divergence) if x} == set(weighted)


def test_the_scores_are_the_logprobs_of_student_and_teacher_at_the_sampled_tokens() -> None:
    """Two views are averaged; tokens without weight have no scores."""
    student, teacher, data = qwen(), qwen(5), samples()
    report = engine(student, (TeacherModel(teacher),), samples=data, objectives=terms()[:1], temperature=0.7)
    gains = []
    for sample, scores in zip(data, report.scores, strict=True):
        with torch.no_grad():
            mine = (response_logits(student, sample.prompt_ids, sample.response_ids) / 0.7).log_softmax(-1)
            views = [
                response_logits(teacher, view.prompt_ids, sample.response_ids).log_softmax(-1) for view in sample.teacher_views
            ]
        for token, weight in enumerate(Distill().token_weights(sample)):
            id = sample.response_ids[token]
            expected = (
                (float(mine[token, id]), float(sum(view[token, id] for view in views) / len(views))) if weight else (0, 0)
            )
            assert (scores.student[token], scores.teacher[token]) == pytest.approx(expected, abs=1e-12)
            gains += [expected[1] - expected[0]] if weight else []
    assert report.teacher_gain == pytest.approx(sum(gains) / len(gains))
    assert len(gains) > 10


def test_a_localizer_can_revise_weights_after_scoring() -> None:
    """The localizer keeps the largest divergences, and the step uses the revised weights."""
    student, teacher_models = qwen(), (TeacherModel(qwen(5)),)
    data = [replace(sample, token_weights=(1.0,) * len(sample.response_ids)) for sample in samples()]
    localizer = TopDivergence(TopDivergence.Config(share=0.3))
    scores = engine(student, teacher_models, samples=data, objectives=terms()[:1], backward=False).scores
    chosen, faults = refine_weights(data, localizer, scores, Ranks.alone("cpu"))
    assert not faults.failed
    for sample, before, score in zip(chosen, data, scores, strict=True):
        kept = [d for d, weight in zip(score.divergence, sample.token_weights, strict=True) if weight]
        dropped = [d for d, weight in zip(score.divergence, sample.token_weights, strict=True) if not weight]
        if not before.teacher_views:
            assert sample == before
        elif any(score.divergence):
            assert len(kept) == math.ceil(0.3 * len(sample.response_ids)) and min(kept) >= max(dropped, default=0.0)
    report = engine(student, teacher_models, samples=chosen, objectives=terms()[:1])
    wanted = {(i, t) for i, s in enumerate(chosen) for t, w in enumerate(Distill().token_weights(s)) if w}
    assert report.tokens == len(wanted) > 5


def test_measuring_only_leaves_no_gradient() -> None:
    student, teacher_models = qwen(), (TeacherModel(qwen(5)),)
    measured = engine(student, teacher_models, backward=False)
    assert gradients(student) == {}
    differentiated = engine(student, teacher_models)
    entropies = [scores.teacher_entropy for scores in measured.scores]
    assert any(any(row) for row in entropies)
    same = [replace(s, teacher_entropy=row) for s, row in zip(differentiated.scores, entropies, strict=True)]
    assert measured == replace(differentiated, scores=same)


def test_measuring_reports_the_entropies_of_student_and_teacher() -> None:
    """The teacher's entropy is the mean over its views; tokens without weight have entropy 0."""
    student, teacher, data = qwen(), qwen(5), samples()
    report = engine(student, (TeacherModel(teacher),), samples=data, objectives=terms()[:1], backward=False)
    for sample, scores in zip(data, report.scores, strict=True):
        with torch.no_grad():
            prompts = [sample.prompt_ids, *(view.prompt_ids for view in sample.teacher_views)]
            models = [student, *[teacher] * len(sample.teacher_views)]
            mine, *views = (
                torch.distributions.Categorical(logits=response_logits(model, prompt, sample.response_ids)).entropy()
                for model, prompt in zip(models, prompts, strict=True)
            )
        weights = Distill().token_weights(sample)
        teacher_entropies = sum(views) / len(views) if views else mine
        assert scores.student_entropy == pytest.approx([float(h) if w else 0.0 for h, w in zip(mine, weights, strict=True)])
        assert scores.teacher_entropy == pytest.approx(
            [float(h) if w else 0.0 for h, w in zip(teacher_entropies, weights, strict=True)]
        )


def test_a_step_without_weights_has_a_loss_of_zero() -> None:
    student = qwen()
    report = engine(student, (), samples=[s for s in samples() if not s.teacher_views], objectives=terms()[:1])
    assert (report.loss, report.tokens, report.entropy, report.terms) == (0.0, 0, 0.0, {"distill": 0.0})
    assert gradients(student) == {}


def test_a_teacher_equal_to_the_student_gives_no_gradient() -> None:
    student = qwen().train()
    data = [
        DistillSample(**{**vars(s), "teacher_views": (TeacherView(prompt_ids=s.prompt_ids, source="same"),)}) for s in samples()
    ]
    report = engine(student, (TeacherModel(student),), samples=data, objectives=terms()[:1])
    assert report.loss == pytest.approx(0.0, abs=1e-15)
    assert all(float(value.abs().max()) < 1e-13 for value in gradients(student).values())
    assert student.training and student.model.training


def test_the_teachers_common_prefix_runs_once_when_a_problem_needs_several_micro_batches() -> None:
    """Four rollouts, one micro-batch each: the teacher's sequences would fit alone, but continue from one cached prefix."""
    student, teacher = qwen(), qwen(5)
    prompt, shown = tuple(range(1, 13)), tuple(range(13, 33))
    data = [
        replace(
            samples()[0],
            prompt_ids=prompt,
            response_ids=(40 + i,) * 10,
            behaviour_logprobs=(-1.0,) * 10,
            token_weights=(1.0,) * 10,
            teacher_views=(TeacherView(prompt_ids=prompt + shown, source="solution"),),
        )
        for i in range(4)
    ]
    objectives = [WeightedObjective(Distill(parts=PARTS))]
    loss = reference(student, (TeacherModel(teacher),), data, objectives, 1.0)
    loss.backward()
    expected = gradients(student)
    runs: list[int] = []
    teacher.model.register_forward_pre_hook(
        lambda module, args, kwargs: runs.append(kwargs["input_ids"].numel()), with_kwargs=True
    )
    settings = BatchSettings(tokens=25, layout="shared")
    report = engine(student, (TeacherModel(teacher),), samples=data, objectives=objectives, settings=settings)
    assert runs == [31, 10, 10, 10, 10]
    assert report.loss == pytest.approx(loss.item(), abs=1e-12)
    assert_same(gradients(student), expected, atol=1e-7)


@pytest.mark.parametrize("layout", ["padded", "shared"])
def test_lora_trains_only_the_adapters_against_the_base(layout: Any) -> None:
    student = lora()
    base = TeacherModel(student, guard=student.disable_adapter)
    fixed = (TeacherModel(qwen()),)
    expected = reference(student, fixed, samples(), terms(), 1.0)
    expected.backward()
    wanted = gradients(student)
    assert wanted and all("lora_" in name for name in wanted)
    report = engine(student, (base,), settings=BatchSettings(tokens=40, layout=layout))
    assert report.loss == pytest.approx(expected.item(), abs=1e-12)
    assert_same(gradients(student), wanted, atol=1e-7 if layout == "shared" else 1e-12)


def test_a_teacher_can_borrow_the_students_tensors_while_a_prefix_is_cached() -> None:
    """A moving average swaps places with the weights between the micro-batches of one group."""
    student, other = qwen(), qwen(5)

    @contextmanager
    def borrowed() -> Iterator[None]:
        own = [parameter.data for parameter in student.parameters()]
        for parameter, average in zip(student.parameters(), other.parameters(), strict=True):
            parameter.data = average.data
        yield
        for parameter, data in zip(student.parameters(), own, strict=True):
            parameter.data = data

    expected = reference(student, (TeacherModel(other),), samples(), terms(), 1.0)
    expected.backward()
    wanted = gradients(student)
    report = engine(student, (TeacherModel(student, guard=borrowed),), settings=BatchSettings(tokens=30, layout="shared"))
    assert report.loss == pytest.approx(expected.item(), abs=1e-12)
    assert_same(gradients(student), wanted, atol=1e-7)


def test_a_loss_that_is_not_finite_is_reported() -> None:
    student = qwen()
    with torch.no_grad():
        student.model.norm.weight.fill_(float("nan"))
    report = engine(student, (TeacherModel(qwen(5)),))
    assert report.loss != report.loss


def test_a_teacher_with_another_vocabulary_is_an_error() -> None:
    torch.manual_seed(0)
    other = Qwen3ForCausalLM(Qwen3Config(**{**SHAPE, "vocab_size": 70}, head_dim=8)).double()
    with pytest.raises(RunError, match="vocabulary has 70 entries, the student's 61"):
        engine(qwen(), (TeacherModel(other),))


def test_logits_stay_within_a_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    """The head never sees more rows than a chunk holds, nor a token without weight."""
    student, teacher_models = qwen(), (TeacherModel(qwen(5)),)
    seen: list[int] = []
    linear = nn.Linear.forward

    def counting(self: nn.Linear, hidden: Tensor) -> Tensor:
        if self is student.lm_head:
            seen.append(len(hidden))
        return linear(self, hidden)

    monkeypatch.setattr(nn.Linear, "forward", counting)
    report = engine(student, teacher_models, tokens=10_000)
    monkeypatch.undo()
    assert seen == [1, report.tokens]
    parts = split_model(student)
    assert parts.head is student.lm_head and parts.backbone is student.model


def test_the_same_step_twice_is_the_same_to_the_bit() -> None:
    student, teacher_models = qwen().float(), (TeacherModel(qwen(5).float(), guard=nullcontext),)
    first, grads = engine(student, teacher_models), gradients(student)
    second, again = engine(student, teacher_models), gradients(student)
    assert first == second
    assert all(torch.equal(grads[name], again[name]) for name in grads)
