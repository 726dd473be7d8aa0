"""The engines: what is sampled, with which log-probs, and that neighbours do not matter."""

from __future__ import annotations

import copy
from collections import Counter
from dataclasses import replace

import peft
import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, MinPLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from rosd_kit.components.rollouts import ReferenceEngine, TransformersEngine
from rosd_kit.components.tasks import Micro
from rosd_kit.decoding.sampler import TokenSampler, limited
from rosd_kit.errors import EngineError
from rosd_kit.model.micro.model import blank_model
from rosd_kit.model.micro.tokenizer import build_tokenizer
from rosd_kit.model.student import Student
from rosd_kit.settings import LoraSettings, ModelSettings
from rosd_kit.types import Completion, GenerateRequest, Sampling


@pytest.fixture(scope="module")
def student() -> Student:
    return Student.load(ModelSettings(path="micro", device="cpu"), keep_initial=True)


@pytest.fixture(scope="module")
def prompts(student) -> list[tuple[int, ...]]:
    problems = [p for suite in Micro().suites(count=1, seed=0).values() for p in suite]
    found = [student.prompt_ids(p.messages) for p in problems]
    assert len({len(p) for p in found}) > 1
    return found


@pytest.fixture
def ending(student):
    """Make every fifth id end a response, so that some rollouts end early whatever the model has learnt."""
    config = student.model.generation_config
    before = config.eos_token_id
    config.eos_token_id = list(range(0, student.vocabulary, 5))
    yield student.end_ids
    config.eos_token_id = before


def engine_of(student, **options) -> TransformersEngine:
    engine = TransformersEngine(TransformersEngine.Config(**options))
    engine.start(student)
    return engine


def asking(prompt, seed=0, *, temperature=1.0, top_p=1.0, most=24) -> GenerateRequest:
    sampling = Sampling(temperature=temperature, top_p=top_p, max_new_tokens=most)
    return GenerateRequest(prompt_ids=tuple(prompt), sampling=sampling, seed=seed)


@torch.no_grad()
def plain_logits(model, ids):
    return model(input_ids=torch.tensor([ids])).logits[0]


def plain_logprobs(model, done: Completion, temperature: float) -> list[float]:
    logits = plain_logits(model, (*done.prompt_ids, *done.token_ids))[len(done.prompt_ids) - 1 : -1]
    logp = torch.log_softmax(logits / temperature, dim=-1)
    return logp.gather(1, torch.tensor(done.token_ids)[:, None]).squeeze(1).tolist()


def ids_of(done) -> list[tuple[int, ...]]:
    return [c.token_ids for c in done]


@pytest.mark.parametrize("temperature", [0.6, 1.0, 1.8])
def test_logprobs_are_those_of_a_plain_forward_pass_at_the_temperature(student, prompts, temperature):
    requests = [asking(p, seed, temperature=temperature) for p in prompts for seed in range(3)]
    for done in engine_of(student).generate(requests):
        assert done.logprobs == pytest.approx(plain_logprobs(student.model, done, temperature), abs=1e-4)


def test_logprobs_under_top_p_are_over_the_whole_distribution(student, prompts):
    (done,) = engine_of(student).generate([asking(prompts[0], top_p=0.5, temperature=1.5)])
    assert done.logprobs == pytest.approx(plain_logprobs(student.model, done, 1.5), abs=1e-4)


def test_a_requests_tokens_do_not_depend_on_its_neighbours_or_its_place(student, prompts):
    requests = [asking(p, seed, temperature=1.3) for p in prompts for seed in range(4)]
    alone = [engine_of(student).generate([r])[0].token_ids for r in requests]
    assert ids_of(engine_of(student).generate(requests)) == alone
    assert ids_of(engine_of(student).generate(requests[::-1])) == alone[::-1]
    assert ids_of(engine_of(student, max_batch=3).generate(requests)) == alone


def test_neighbours_with_other_sampling_change_nothing(student, prompts):
    mine = [asking(p, temperature=1.3) for p in prompts]
    alone = ids_of(engine_of(student).generate(mine))
    others = [asking(prompts[0], top_p=0.3), asking(prompts[1], temperature=0), asking(prompts[2], most=40)]
    assert ids_of(engine_of(student).generate([*others, *mine]))[len(others) :] == alone


def test_temperature_zero_is_the_plain_argmax_loop(student, prompts):
    expected = []
    for prompt in prompts:
        ids: list[int] = []
        while len(ids) < 24 and not (ids and ids[-1] in student.end_ids):
            ids.append(int(plain_logits(student.model, (*prompt, *ids))[-1].argmax()))
        expected.append(tuple(ids))
    done = engine_of(student).generate([asking(p, seed=i, temperature=0.0) for i, p in enumerate(prompts)])
    assert ids_of(done) == expected
    for completion in done:
        assert completion.logprobs == pytest.approx(plain_logprobs(student.model, completion, 1.0), abs=1e-4)


def test_tokens_are_drawn_as_often_as_they_are_likely(student, prompts):
    count, temperature = 3000, 2.0
    done = engine_of(student).generate([asking(prompts[0], s, temperature=temperature, most=1) for s in range(count)])
    p = torch.softmax(plain_logits(student.model, prompts[0])[-1] / temperature, dim=-1)
    drawn = Counter(c.token_ids[0] for c in done)
    for token, share in enumerate(p.tolist()):
        assert abs(drawn[token] / count - share) < 5 * (share * (1 - share) / count) ** 0.5 + 2 / count


def test_top_p_draws_from_the_nucleus_alone(student, prompts):
    logits = plain_logits(student.model, prompts[0])[-1]
    p, order = torch.softmax(logits / 2.0, dim=-1).sort(descending=True)
    nucleus = set(order[: int((p.cumsum(0) < 0.7).sum()) + 1].tolist())
    requests = [asking(prompts[0], seed, temperature=2.0, top_p=0.7, most=1) for seed in range(500)]
    drawn = {c.token_ids[0] for c in engine_of(student).generate(requests)}
    assert drawn <= nucleus
    assert order[0].item() in drawn


@pytest.mark.parametrize(
    ("top_p", "expected"),
    [
        (0.4, [0.0, 0.5, 0.0, 0.0]),
        (0.5, [0.0, 0.5, 0.0, 0.0]),
        (0.6, [0.0, 0.5, 0.25, 0.0]),
        (0.8, [0.125, 0.5, 0.25, 0.0]),
        (1.0, [0.125, 0.5, 0.25, 0.125]),
    ],
)
def test_the_nucleus_of_a_worked_distribution(top_p, expected):
    assert limited_row(0, top_p, 0.0) == expected


def limited_row(top_k, top_p, min_p) -> list[float]:
    probs = torch.tensor([[0.125, 0.5, 0.25, 0.125]])
    return limited(probs, *(torch.tensor([[limit]]) for limit in (top_k, top_p, min_p))).tolist()[0]


@pytest.mark.parametrize(
    ("top_k", "top_p", "min_p", "expected"),
    [
        (1, 1.0, 0.0, [0.0, 0.5, 0.0, 0.0]),
        (3, 1.0, 0.0, [0.125, 0.5, 0.25, 0.0]),
        (9, 1.0, 0.0, [0.125, 0.5, 0.25, 0.125]),
        (0, 1.0, 0.5, [0.0, 0.5, 0.25, 0.0]),
        (0, 1.0, 0.25, [0.125, 0.5, 0.25, 0.125]),
        (0, 1.0, 1.0, [0.0, 0.5, 0.0, 0.0]),
        (0, 0.6, 0.0, [0.0, 0.5, 0.25, 0.0]),
        (2, 0.6, 0.0, [0.0, 0.5, 0.0, 0.0]),  # 0.5 is two thirds of what the two likeliest tokens have
        (2, 0.7, 0.0, [0.0, 0.5, 0.25, 0.0]),
        (3, 0.9, 0.4, [0.0, 0.5, 0.25, 0.0]),
    ],
)
def test_the_limits_of_a_worked_distribution_apply_one_after_the_other(top_k, top_p, min_p, expected):
    assert limited_row(top_k, top_p, min_p) == expected


def test_the_limits_keep_what_transformers_keeps():
    """Compare with its own processors, on random logits without ties."""
    generator = torch.Generator().manual_seed(0)
    for top_k, top_p, min_p in ((5, 0.8, 0.1), (0, 0.6, 0.05), (12, 1.0, 0.2), (3, 0.5, 0.0)):
        logits = 2 * torch.randn(8, 40, generator=generator)
        steps = [TopKLogitsWarper(top_k)] if top_k else []
        steps += [TopPLogitsWarper(top_p)] + ([MinPLogitsWarper(min_p)] if min_p else [])
        theirs = logits
        for step in steps:
            theirs = step(None, theirs)
        ours = limited(logits.softmax(-1), *(torch.full((8, 1), limit) for limit in (top_k, top_p, min_p)))
        assert (ours > 0).tolist() == theirs.isfinite().tolist()


def test_each_row_has_its_own_limits_and_logprobs_over_the_whole_distribution():
    """Uniform numbers on a grid draw each token exactly as often as its share of what is left."""
    probs = [0.125, 0.5, 0.25, 0.125]
    sampling = [Sampling(), Sampling(top_k=2), Sampling(min_p=0.5, top_p=0.7), Sampling(top_k=3, temperature=0.5)]
    sampler = TokenSampler.of([GenerateRequest(prompt_ids=(), sampling=one, seed=0) for one in sampling], torch.device("cpu"))
    grid = (torch.arange(2100, dtype=torch.float64) + 0.5) / 2100
    squares = [p * p / 0.34375 for p in probs]
    kept = ([0.125, 0.5, 0.25, 0.125], [0, 2 / 3, 1 / 3, 0], [0, 2 / 3, 1 / 3, 0], [1 / 21, 16 / 21, 4 / 21, 0])
    for row, (expected, whole) in enumerate(zip(kept, (probs, probs, probs, squares), strict=True)):
        logits = torch.tensor([probs]).log().expand(2100, 4)
        tokens, logprobs = sampler.draw(logits, grid, torch.full((2100,), row))
        assert (torch.bincount(tokens, minlength=4) / 2100).tolist() == pytest.approx(expected, abs=1 / 2100)
        assert logprobs.exp().tolist() == pytest.approx([whole[token] for token in tokens.tolist()])


def stopped_by(student, request, stop) -> Completion:
    [done] = engine_of(student).generate([replace(request, sampling=replace(request.sampling, stop=(stop,)))])
    return done


def test_a_stop_string_ends_the_response_with_the_token_that_completes_it(student, prompts):
    request = asking(prompts[0], temperature=0.0)
    [free] = engine_of(student).generate([request])
    spans = free.token_spans
    assert len(free.token_ids) > 8
    for last in (2, 5, 8):
        # From within one token to within another, so that no token is the stop string.
        stop = free.text[spans[last - 2][0] + 1 : spans[last][0] + 2] if last > 2 else free.text[: spans[last][1]]
        expected = next(n for n in range(1, len(spans)) if stop in free.text[: spans[n - 1][1]])
        done = stopped_by(student, request, stop)
        assert (done.token_ids, done.finish_reason) == (free.token_ids[:expected], "stop")
        assert (done.logprobs, stop in done.text) == (free.logprobs[:expected], True)
    assert stopped_by(student, request, "no such text") == free


def test_stop_strings_end_their_own_rows_alone(student, prompts):
    requests = [asking(p, seed, temperature=1.3) for p in prompts for seed in range(4)]
    free = engine_of(student).generate(requests)
    stop = free[0].text[free[0].token_spans[3][0] : free[0].token_spans[3][1]].strip()
    halves = [replace(r, sampling=replace(r.sampling, stop=(stop, "@@"))) if i % 2 == 0 else r for i, r in enumerate(requests)]
    for index, (done, whole) in enumerate(zip(engine_of(student).generate(halves), free, strict=True)):
        text = [student.tokenizer.decode(whole.token_ids[: n + 1]) for n in range(len(whole.token_ids))]
        first = next((n + 1 for n, part in enumerate(text) if stop in part), None) if index % 2 == 0 else None
        assert done.token_ids == whole.token_ids[:first]
        assert done.finish_reason == ("stop" if first else whole.finish_reason)


def test_the_stop_string_of_a_replay_ends_it(student, prompts):
    engine = ReferenceEngine()
    engine.start(student)
    request = replace(asking(prompts[0], most=50), reference="Step 1 : 17 + 8 = 25 . Answer : 25 .")
    [done] = engine.generate([replace(request, sampling=Sampling(max_new_tokens=50, stop=("= 25",)))])
    assert (done.text, done.finish_reason) == ("Step 1 : 17 + 8 = 25", "stop")


def test_early_ends_do_not_change_the_others(student, prompts, ending):
    requests = [asking(p, s, temperature=2.0, most=30) for p in prompts for s in range(8)]
    assert ids_of(engine_of(student).generate(requests)) == [engine_of(student).generate([r])[0].token_ids for r in requests]


def test_a_batch_ends_soon_after_its_longest_response(student, prompts, ending):
    """Rows that have ended stay in the batch for a while; the tokens that they draw there must not keep it alive."""
    requests = [asking(p, s, temperature=2.0, most=200) for p in prompts for s in range(16)]
    passes: Counter[str] = Counter()
    hook = student.model.register_forward_hook(lambda *_: passes.update(["forward"]))
    engine = engine_of(student)
    engine.generate(requests[:1])  # tries the cache out
    passes.clear()
    longest = max(len(c.token_ids) for c in engine.generate(requests))
    hook.remove()
    assert longest <= passes["forward"] <= longest + 4 < 200


def test_the_limits_of_a_batch_are_each_requests_own(student, prompts):
    requests = [asking(p, temperature=0.0, most=most) for p, most in zip(prompts, (1, 7, 3, 2, 9), strict=True)]
    done = engine_of(student).generate(requests)
    assert all(len(c.token_ids) <= r.sampling.max_new_tokens for c, r in zip(done, requests, strict=True))
    long = engine_of(student).generate([replace(r, sampling=Sampling(temperature=0.0, max_new_tokens=9)) for r in requests])
    assert all(whole.token_ids[: len(c.token_ids)] == c.token_ids for c, whole in zip(done, long, strict=True))


def test_a_prompt_that_leaves_no_room_is_overlong_and_the_rest_is_answered(student, prompts):
    limit = student.model.config.max_position_embeddings
    word = prompts[0][1]
    full, nearly = (word,) * limit, (word,) * (limit - 1)
    asked = [asking(full), asking(prompts[0], temperature=0.0, most=3), asking(nearly)]
    over, fine, tight = engine_of(student).generate(asked)
    assert (over.finish_reason, over.token_ids, over.logprobs, over.text) == ("overlong", (), (), "")
    assert over.prompt_ids == full
    assert fine.token_ids == engine_of(student).generate([asking(prompts[0], temperature=0.0, most=3)])[0].token_ids
    assert len(tight.token_ids) == 1


def test_no_row_runs_past_the_last_position_of_the_model():
    tokenizer = build_tokenizer()
    config = GPT2Config(vocab_size=len(tokenizer), n_positions=16, n_embd=8, n_layer=1, n_head=2, eos_token_id=None)
    torch.manual_seed(0)
    model = GPT2LMHeadModel(config)
    engine = engine_of(Student(model, tokenizer, ModelSettings(device="cpu"), keep_initial=False))
    done = engine.generate([asking((9,) * length, length, most=20) for length in (4, 14, 15, 5)])
    assert all(len(c.token_ids) == 16 - len(c.prompt_ids) or c.finish_reason == "stop" for c in done)


def test_text_and_spans_are_those_of_the_sampled_ids(student, prompts):
    for done in engine_of(student).generate([asking(p, seed, temperature=1.5) for p in prompts for seed in range(3)]):
        assert len(done.token_ids) == len(done.logprobs) == len(done.token_spans)
        assert done.text == student.tokenizer.decode(done.token_ids, skip_special_tokens=True)
        special = set(student.tokenizer.all_special_ids)
        for token, (a, b) in zip(done.token_ids, done.token_spans, strict=True):
            assert (a == b) == (token in special)
            assert token in special or done.text[a:b].strip() == student.tokenizer.decode([token])


def test_modes_and_gradients_are_as_before_also_after_an_error(student, prompts):
    model = copy.deepcopy(student.model)
    engine = engine_of(Student(model, student.tokenizer, ModelSettings(device="cpu"), keep_initial=False))
    model.train()
    model.get_input_embeddings().eval()
    modes = [module.training for module in model.modules()]
    flags = [parameter.requires_grad for parameter in model.parameters()]
    engine.generate([asking(prompts[0], most=3)])
    with pytest.raises(IndexError):
        engine.generate([asking((10**6,), most=3)])
    assert [module.training for module in model.modules()] == modes
    assert [parameter.requires_grad for parameter in model.parameters()] == flags
    assert torch.is_grad_enabled() and not torch.is_inference_mode_enabled()
    model(input_ids=torch.tensor([prompts[0]])).logits.sum().backward()
    assert all(p.grad is not None for p in model.parameters())


def test_initial_weights_are_those_before_training_and_live_ones_follow(student, prompts):
    model = copy.deepcopy(student.model)
    trained = Student(model, student.tokenizer, ModelSettings(device="cpu"), keep_initial=True)
    engine = engine_of(trained)
    asked = [asking(p, temperature=1.2) for p in prompts]
    before = engine.generate(asked)
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    engine.sync(trained, 3)
    initial, live = engine.generate(asked, weights="initial"), engine.generate(asked)
    assert ids_of(initial) == ids_of(before) and ids_of(live) != ids_of(before)
    assert {c.weight_version for c in initial} == {0} and {c.weight_version for c in live} == {3}
    assert live[0].logprobs == pytest.approx(plain_logprobs(model, live[0], 1.2), abs=1e-4)


def test_under_lora_the_initial_weights_are_the_adapter_switched_off(prompts):
    torch.manual_seed(0)
    model = peft.get_peft_model(blank_model(0), peft.LoraConfig(r=2, target_modules="all-linear"))
    settings = ModelSettings(device="cpu", lora=LoraSettings(rank=2))
    engine = engine_of(Student(model, build_tokenizer(), settings, keep_initial=True))
    asked = [asking(prompts[0], seed, most=6) for seed in range(3)]
    before = engine.generate(asked)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.copy_(torch.randn_like(parameter))
    assert [c.logprobs for c in engine.generate(asked, weights="initial")] == [c.logprobs for c in before]
    assert [c.logprobs for c in engine.generate(asked)] != [c.logprobs for c in before]


def test_the_reference_engine_replays_the_solution_with_its_end(student, prompts):
    engine = ReferenceEngine()
    engine.start(student)
    request = replace(asking(prompts[0], most=50), reference="Step 1 : 17 + 8 = 25 . Answer : 25 .")
    done, cut = engine.generate([request, replace(request, sampling=Sampling(max_new_tokens=4))])
    assert (done.text, done.finish_reason) == (request.reference, "stop")
    assert done.token_ids[-1] == student.tokenizer.eos_token_id and set(done.logprobs) == {0.0}
    assert (cut.text, cut.finish_reason, len(cut.token_ids)) == ("Step 1 : 17", "length", 4)
    with pytest.raises(EngineError, match="a request has none"):
        engine.generate([asking(prompts[0])])
