"""Rollouts of this process against transformers' `generate`, plain log-probs, and themselves in other batches."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import peft
import pytest
import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM

from rosd_kit.components.rollouts import TransformersEngine
from rosd_kit.decoding import tree_prefill
from rosd_kit.decoding.choice import RowsKind
from rosd_kit.model.split import split_model
from rosd_kit.model.student import Student
from rosd_kit.settings import ModelSettings
from rosd_kit.types import Completion, GenerateRequest, Sampling
from tests.model.architectures import GPT, LATENT, MOE
from tests.model.tiny_models import SHAPE, tokenizer

#: Architecture, configuration and cache. Windows are shorter than the texts.
MODELS: list[tuple[str, dict, RowsKind]] = [
    ("llama", {}, "direct"),
    ("qwen3", {"head_dim": 8, "tie_word_embeddings": True}, "direct"),
    ("mistral", {"head_dim": 8, "sliding_window": 5}, "direct"),
    ("qwen2", {"use_sliding_window": True, "sliding_window": 5, "max_window_layers": 1}, "direct"),
    ("granite", {"logits_scaling": 2.0, "residual_multiplier": 0.5}, "shared"),
    ("gemma2", {"head_dim": 8, "sliding_window": 5, "query_pre_attn_scalar": 8, "attn_logit_softcapping": 3.0}, "shared"),
    ("gpt_oss", {**MOE, "head_dim": 8, "sliding_window": 5}, "shared"),
    ("deepseek_v3", {**MOE, **LATENT}, "cached"),
    ("mamba", {"state_size": 8, "time_step_rank": 4}, "cached"),
    ("openai-gpt", GPT, "recomputed"),
]
#: (prompt, number of rollouts): groups of one and of several, prompts of many lengths, one the beginning of another.
GROUPS = [(tuple(range(5, 17)), 4), (tuple(range(5, 10)), 3), ((50, 51), 1), (tuple(range(30, 60)), 5), ((7,), 2)]


def student_of(kind: str, config: dict, attention: str = "eager") -> Student:
    torch.manual_seed(3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        settings = AutoConfig.for_model(kind, **{**SHAPE, "vocab_size": len(tokenizer()), **config})
        model = AutoModelForCausalLM.from_config(settings, attn_implementation=attention).eval()
    return Student(model, tokenizer(), ModelSettings(path="tiny", device="cpu"), keep_initial=False)


def engine_of(student: Student, **options: object) -> TransformersEngine:
    engine = TransformersEngine(TransformersEngine.Config.model_validate(options))
    engine.start(student)
    return engine


def requests_of(temperature: float, tokens: int = 24, groups: Sequence = GROUPS) -> list[GenerateRequest]:
    """Return the requests of all groups; every third one may draw a third of the tokens only."""
    prompts = [prompt for prompt, count in groups for _ in range(count)]
    return [
        GenerateRequest(
            prompt_ids=prompt,
            sampling=Sampling(temperature=temperature, max_new_tokens=tokens if seed % 3 else tokens // 3),
            seed=seed,
        )
        for seed, prompt in enumerate(prompts)
    ]


def exact_logprobs(student: Student, done: Completion, temperature: float) -> torch.Tensor:
    """Return the log-probs of a completion's tokens from one forward pass over the whole text, `[tokens]`."""
    ids = torch.tensor([[*done.prompt_ids, *done.token_ids]])
    logits = student.model(input_ids=ids, use_cache=False).logits[0, len(done.prompt_ids) - 1 : -1]
    logprobs = (logits.double() / (temperature or 1.0)).log_softmax(-1)
    return logprobs.gather(1, torch.tensor(done.token_ids)[:, None]).squeeze(1)


@pytest.mark.parametrize(("kind", "config", "rows"), MODELS, ids=[kind for kind, *_ in MODELS])
@torch.no_grad()
def test_greedy_tokens_are_those_of_generate_and_log_probs_those_of_one_forward_pass(kind, config, rows):
    student = student_of(kind, config)
    engine = engine_of(student)
    requests = requests_of(0.0)
    for request, done in zip(requests, engine.generate(requests), strict=True):
        given = student.model.generate(
            input_ids=torch.tensor([request.prompt_ids]),
            attention_mask=torch.ones(1, len(request.prompt_ids), dtype=torch.long),
            max_new_tokens=request.sampling.max_new_tokens,
            do_sample=False,
            eos_token_id=sorted(student.end_ids),
            pad_token_id=student.pad_id,
        )
        assert list(done.token_ids) == given[0, len(request.prompt_ids) :].tolist()
        torch.testing.assert_close(torch.tensor(done.logprobs).double(), exact_logprobs(student, done, 0.0), atol=1e-5, rtol=0)
    assert engine._choice is not None
    assert engine._choice.kind == rows


@pytest.mark.parametrize(("kind", "config", "rows"), MODELS, ids=[kind for kind, *_ in MODELS])
@torch.no_grad()
def test_sampled_tokens_are_the_same_in_every_batch(kind, config, rows):
    student = student_of(kind, config)
    requests = requests_of(1.3)
    together = engine_of(student).generate(requests)
    assert_same(engine_of(student, max_batch=4).generate(requests), together)
    assert_same(engine_of(student).generate(requests[::-1])[::-1], together)
    alone = [engine_of(student).generate([request])[0] for request in requests[::4]]
    assert_same(alone, together[::4])
    for done in together:
        torch.testing.assert_close(torch.tensor(done.logprobs).double(), exact_logprobs(student, done, 1.3), atol=1e-5, rtol=0)


def assert_same(some: Sequence[Completion], others: Sequence[Completion]) -> None:
    """Check tokens, texts and ends for equality, and log-probs up to rounding."""
    for one, other in zip(some, others, strict=True):
        assert (one.token_ids, one.text, one.finish_reason) == (other.token_ids, other.text, other.finish_reason)
        assert one.logprobs == pytest.approx(other.logprobs, abs=1e-5)


@pytest.fixture
def watched(monkeypatch):
    """Return a function that notes `(rows, tokens)` of each later call of a model."""

    def watch(model: nn.Module) -> list[tuple[int, int]]:
        calls: list[tuple[int, int]] = []
        embedding = model.get_input_embeddings()
        usual = embedding.forward

        def note(ids: torch.Tensor) -> torch.Tensor:
            rows, tokens = ids.shape if ids.dim() == 2 else (len(ids), 1)
            calls.append((rows, tokens))
            return usual(ids)

        monkeypatch.setattr(embedding, "forward", note)
        return calls

    return watch


@pytest.mark.parametrize("kind", ["llama", "granite"])
def test_a_prompt_runs_once_for_its_group_and_ended_rows_do_not_run(kind, watched):
    student = student_of(kind, {})
    engine = engine_of(student)
    engine.generate(requests_of(1.0)[:1])  # tries out how to cache
    calls = watched(student.model)
    requests = [
        GenerateRequest(prompt_ids=prompt, sampling=Sampling(temperature=1.3, max_new_tokens=3 + seed), seed=seed)
        for seed, prompt in enumerate([tuple(range(5, 17))] * 16 + [tuple(range(30, 42))] * 16)
    ]
    done = engine.generate(requests)
    assert calls[0] == (2, 12)
    lengths = sorted((len(one.token_ids) for one in done), reverse=True)
    steps = calls[1:]
    assert all(tokens == 1 for _, tokens in steps)
    assert len(steps) == lengths[0] - 1
    needed = [sum(length > step + 1 for length in lengths) for step in range(len(steps))]
    assert len(set(needed)) > 10
    # Up to a sixteenth of the rows may have ended.
    for (rows, _), least in zip(steps, needed, strict=True):
        assert least <= rows <= least + max(1, rows // 16)


@pytest.mark.parametrize("kind", ["llama", "granite"])
def test_waiting_requests_take_the_place_of_ended_rows(kind, watched):
    student = student_of(kind, {})
    engine = engine_of(student, max_batch=8)
    requests = requests_of(1.3, tokens=48, groups=[((seed + 5, 9, seed + 9), 1) for seed in range(40)])
    engine.generate(requests[:1])
    calls = watched(student.model)
    done = engine.generate(requests)
    steps = [rows for rows, tokens in calls if tokens == 1]
    assert max(steps) == 8
    needed = sum(len(one.token_ids) - 1 for one in done)
    # In batches that start and end together, every row would run as long as the longest of its batch.
    ordered = [done[start : start + 8] for start in range(0, 40, 8)]
    together = sum(len(batch) * max(len(one.token_ids) - 1 for one in batch) for batch in ordered)
    assert needed <= sum(steps) < (needed + together) / 2


@torch.no_grad()
def test_adapters_decode_directly_with_their_own_log_probs():
    student = student_of("llama", {})
    adapted = peft.get_peft_model(student.model, peft.LoraConfig(r=4, target_modules=["q_proj", "v_proj", "down_proj"]))
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter, std=0.3)
    student = Student(adapted.eval(), tokenizer(), ModelSettings(path="tiny", device="cpu"), keep_initial=False)
    engine = engine_of(student)
    for done in engine.generate(requests_of(1.0)):
        expected = exact_logprobs(student, done, 1.0)
        torch.testing.assert_close(torch.tensor(done.logprobs).double(), expected, atol=1e-5, rtol=0)
    assert engine._choice is not None
    assert engine._choice.kind == "direct"


def test_a_hook_on_a_layer_is_called_for_every_token():
    student = student_of("llama", {})
    engine = engine_of(student)
    requests = requests_of(1.0)
    before = engine.generate(requests)
    calls: list[int] = []
    handle = student.model.model.layers[1].register_forward_hook(lambda *_: calls.append(1))
    after = engine.generate(requests)
    handle.remove()
    assert_same(after, before)
    assert len(calls) == max(len(done.token_ids) for done in after)


#: Prompts that branch at several depths, one that another begins with, and one of its own.
BRANCHING = [(4, 5, 6, 7, 8, 9), (4, 5, 6, 7, 20, 21, 22), (4, 5, 6, 7, 20, 21), (4, 5, 30), (50, 51, 52, 53)]


@pytest.mark.parametrize("temperature", [0.0, 1.3])
@pytest.mark.parametrize("copies", [1, 4], ids=["alone", "groups"])
@pytest.mark.parametrize("kind", ["llama", "granite"])
@torch.no_grad()
def test_what_prompts_have_in_common_runs_once_where_that_pays(kind, copies, temperature, monkeypatch, watched):
    student = student_of(kind, {}, attention="sdpa")
    requests = requests_of(temperature, groups=[(prompt, copies) for prompt in BRANCHING])
    padded = engine_of(student).generate(requests)
    monkeypatch.setattr(tree_prefill, "_SEGMENT_COST", 0)
    engine = engine_of(student)
    engine.generate(requests[:1])
    calls = watched(student.model)
    done = engine.generate(requests)
    assert calls[0] == (1, 4 + 2 + 2 + 1 + 1 + 4)
    assert_same(done, padded)
    for one in done:
        expected = exact_logprobs(student, one, temperature)
        # With granite the greatest difference is 1.4e-5, with padded prompts too.
        torch.testing.assert_close(torch.tensor(one.logprobs).double(), expected, atol=1e-5, rtol=4e-6)


def test_a_prefix_tree_pays_when_it_saves_more_than_its_segments_cost():
    parts = split_model(student_of("llama", {}, attention="sdpa").model)
    parameters = sum(parameter.numel() for parameter in parts.backbone.parameters())
    worth = tree_prefill._SEGMENT_COST * SHAPE["num_hidden_layers"] * 4 // parameters  # tokens that two prompts' segments cost
    common = tuple([4] * (worth + 2))
    cpu = torch.device("cpu")
    assert tree_prefill.tree_pays(parts, [(*common, 5), (*common, 6)], cpu)
    assert not tree_prefill.tree_pays(parts, [(*common[4:], 5), (*common[4:], 6)], cpu)
    assert not tree_prefill.tree_pays(parts, [(*common, 5)], cpu)
    assert not tree_prefill.tree_pays(parts, [(*common, 5), (*common, 6)], torch.device("meta"))


@torch.no_grad()
def test_a_batch_of_greedy_requests_draws_what_each_draws_beside_a_sampled_one():
    student = student_of("llama", {})
    greedy, sampled = requests_of(0.0), requests_of(1.3)
    mixed = engine_of(student).generate([*greedy, *sampled])
    assert_same(engine_of(student).generate(greedy), mixed[: len(greedy)])
