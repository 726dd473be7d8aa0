"""The laws of rollout engines, checked on a tiny real student: completions match the requests and the model."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from threading import Event
from typing import TYPE_CHECKING

import torch

from rosd_kit.contracts import RolloutEngine, Site
from rosd_kit.testing.builders import SOLUTION
from rosd_kit.testing.check import Bench, check, does_not_apply, rebuilt, require
from rosd_kit.testing.student import tiny_student
from rosd_kit.text.spans import decode_with_spans
from rosd_kit.types import Completion, GenerateRequest, Sampling

if TYPE_CHECKING:
    from rosd_kit.model.student import Student

_TOLERANCE = 2e-3  # nats
_QUESTIONS = ("Start at 17 . Add 8 .", "What is 1 + 2 + 3 ?", "Ann has 9 coins")


@contextmanager
def _started(engine: RolloutEngine) -> Iterator[tuple[RolloutEngine, Student]]:
    """Yield a new engine with these options, started on a tiny student for which every tenth id is an end token."""
    fresh = rebuilt(engine)
    student = tiny_student()
    student.model.generation_config.eos_token_id = [student.tokenizer.eos_token_id, *range(0, student.vocabulary, 10)]
    fresh.start(student, Site())
    try:
        yield fresh, student
    finally:
        fresh.close()


def _requests(
    student: Student, *, temperature: float = 1.0, max_new_tokens: int = 12, seeds: Sequence[int] = (0, 1)
) -> list[GenerateRequest]:
    """Return one request per question and seed."""
    sampling = Sampling(temperature=temperature, max_new_tokens=max_new_tokens)
    prompts = [student.prompt_ids([{"role": "user", "content": question}]) for question in _QUESTIONS]
    return [GenerateRequest(prompt_ids=p, sampling=sampling, seed=s, reference=SOLUTION) for p in prompts for s in seeds]


@torch.no_grad()
def _logits(student: Student, completion: Completion) -> torch.Tensor:
    """Return the model's logits `[tokens, vocab]` for each sampled token."""
    ids = torch.tensor([(*completion.prompt_ids, *completion.token_ids)])
    logits: torch.Tensor = student.model(input_ids=ids).logits[0]
    return logits[len(completion.prompt_ids) - 1 : -1]


def _gap(student: Student, completion: Completion, temperature: float = 1.0) -> float:
    """Return the largest difference between the completion's logprobs and the model's, in nats."""
    logprobs = torch.log_softmax(_logits(student, completion) / temperature, dim=-1)
    logprobs = logprobs.gather(1, torch.tensor(completion.token_ids)[:, None]).squeeze(1)
    return float((logprobs - torch.tensor(completion.logprobs)).abs().max())


@check("rollout")
def check_preserves_token_ids(engine: RolloutEngine, bench: Bench) -> None:
    """Completions have the order and the prompt ids of the requests; each token has a logprob and a span.

    Token ids are ints of the model's vocabulary, as they were drawn. Without requests there are no completions.
    """
    with _started(engine) as (engine, student):
        require(engine.generate([]) == [], "it returns completions for no requests")
        requests = _requests(student)
        completions = engine.generate(requests)
        require(len(completions) == len(requests), f"{len(completions)} completions for {len(requests)} requests")
        for request, completion in zip(requests, completions, strict=True):
            require(completion.prompt_ids == request.prompt_ids, "a completion's prompt ids are not those of its request")
            lengths = {len(completion.token_ids), len(completion.logprobs), len(completion.token_spans)}
            require(len(lengths) == 1, f"the numbers of token ids, logprobs and spans differ: {sorted(lengths)}")
            valid = all(isinstance(i, int) and 0 <= i < student.vocabulary for i in completion.token_ids)
            require(valid, f"token ids {completion.token_ids} in a vocabulary of {student.vocabulary}")


@check("rollout")
def check_text_matches_the_ids(engine: RolloutEngine, bench: Bench) -> None:
    """`text` and `token_spans` are decoded from the token ids without special tokens: localizers search the text for quotes."""
    with _started(engine) as (engine, student):
        for completion in engine.generate(_requests(student)):
            text, spans = decode_with_spans(student.tokenizer, completion.token_ids)
            require(completion.text == text, f"the text is {completion.text!r}, but the ids decode to {text!r}")
            require(
                list(completion.token_spans) == spans, f"the spans are {completion.token_spans}, but those of the ids {spans}"
            )


@check("rollout")
def check_stops(engine: RolloutEngine, bench: Bench) -> None:
    """A response ends at `max_new_tokens` (`length`) or at its first end token, which it includes (`stop`)."""
    with _started(engine) as (engine, student):
        for limit in (1, 5, 30):
            for completion in engine.generate(_requests(student, max_new_tokens=limit, seeds=range(4))):
                length, reason = len(completion.token_ids), completion.finish_reason
                ends = [index for index, token in enumerate(completion.token_ids) if token in student.end_ids]
                require(0 < length <= limit, f"{length} tokens; at most {limit} are allowed")
                if reason == "stop":
                    require(ends == [length - 1], f"'stop' after {length} tokens, but its end tokens are at {ends}")
                else:
                    full = not ends and length == limit and reason == "length"
                    require(full, f"{reason!r} after {length} of {limit} tokens, with end tokens at {ends}")


@check("rollout")
def check_logprobs_match_the_model(engine: RolloutEngine, bench: Bench) -> None:
    """`logprobs` are the model's log softmax(logits / temperature), in nats; waived by `replays = True`."""
    if engine.replays:
        raise does_not_apply("its class sets replays = True")
    with _started(engine) as (engine, student):
        for temperature in (0.6, 1.0, 1.7):
            for completion in engine.generate(_requests(student, temperature=temperature)):
                gap = _gap(student, completion, temperature)
                require(gap < _TOLERANCE, f"at temperature {temperature} a logprob is {gap:.3g} nats from the model's")


@check("rollout")
def check_greedy_takes_the_most_likely_token(engine: RolloutEngine, bench: Bench) -> None:
    """At temperature 0 every token is the model's most likely one, whatever the seed; waived by `replays = True`."""
    if engine.replays:
        raise does_not_apply("its class sets replays = True")
    with _started(engine) as (engine, student):
        for completion in engine.generate(_requests(student, temperature=0.0)):
            logits = _logits(student, completion)
            behind = logits.max(-1).values - logits.gather(1, torch.tensor(completion.token_ids)[:, None]).squeeze(1)
            require(behind.max() < _TOLERANCE, f"a token's logit is {behind.max():.3g} below the largest")


@check("rollout")
def check_seed_determines_tokens(engine: RolloutEngine, bench: Bench) -> None:
    """The same request always gets the same tokens, alone or in a batch; different seeds give different tokens.

    Neither the global random state nor the position in the batch matters. With `replays = True` seeds may agree.
    """
    with _started(engine) as (engine, student):
        requests = _requests(student, seeds=range(4))
        first = engine.generate(requests)
        random.seed(99)
        with torch.random.fork_rng():
            torch.manual_seed(99)
            again = engine.generate(requests[::-1])[::-1]
            alone = engine.generate(requests[:1])
        for one, other in zip(first, again, strict=True):
            require(one.token_ids == other.token_ids, f"the same request got {one.token_ids}, then {other.token_ids}")
        require(alone[0].token_ids == first[0].token_ids, "alone a request gets other tokens than in a batch")
        differ = len({c.token_ids for c in first[:4]}) > 1
        require(differ or engine.replays, "four seeds of one prompt gave the same tokens")


@check("rollout")
def check_reports_overlong_prompts(engine: RolloutEngine, bench: Bench) -> None:
    """A prompt longer than the model's context window gives an `overlong` completion without tokens; others are answered.

    Waived by `replays = True`: such an engine has no window.
    """
    if engine.replays:
        raise does_not_apply("its class sets replays = True")
    with _started(engine) as (engine, student):
        ordinary = _requests(student)[0]
        window = student.model.config.max_position_embeddings
        too_long = GenerateRequest(prompt_ids=(ordinary.prompt_ids * window)[: window + 1], sampling=ordinary.sampling, seed=0)
        overlong, other = engine.generate([too_long, ordinary])
        empty = (overlong.token_ids, overlong.logprobs, overlong.text) == ((), (), "")
        require(
            overlong.finish_reason == "overlong" and empty, f"{overlong.finish_reason!r} with {len(overlong.token_ids)} tokens"
        )
        require(len(other.token_ids) > 0, "the request next to an overlong one got no tokens")


@check("rollout")
def check_uses_synced_weights(engine: RolloutEngine, bench: Bench) -> None:
    """After `sync` it generates with the student's new weights and version; `initial` still means the initial weights.

    Waived by `replays = True`.
    """
    if engine.replays:
        raise does_not_apply("its class sets replays = True")
    with _started(engine) as (engine, student):
        requests = _requests(student)
        before = engine.generate(requests)
        with torch.no_grad():
            for seed, parameter in enumerate(student.model.parameters()):
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(seed)))
        engine.sync(student, 3)
        live, initial = engine.generate(requests), engine.generate(requests, weights="initial")
        versions = {completion.weight_version for completion in live}
        require(versions == {3}, f"after a sync to version 3 the completions have the versions {sorted(versions)}")
        require(
            [c.token_ids for c in initial] == [c.token_ids for c in before],
            "weights='initial' does not generate with the initial weights",
        )
        for completion in live:
            gap = _gap(student, completion)
            require(gap < _TOLERANCE, f"after sync a logprob is {gap:.3g} nats from the student's")


@check("rollout")
def check_stream_equals_generate(engine: RolloutEngine, bench: Bench) -> None:
    """`stream` yields the index of each request once, with the completion that `generate` returns."""
    with _started(engine) as (engine, student):
        requests = _requests(student)
        streamed = list(engine.stream(requests))
        indices = sorted(index for index, _ in streamed)
        require(indices == list(range(len(requests))), f"it yields the indices {indices} for {len(requests)} requests")
        expected = [c.token_ids for c in engine.generate(requests)]
        require(
            all(c.token_ids == expected[index] for index, c in streamed), "a streamed completion belongs to another request"
        )


@check("rollout")
def check_stops_open_requests(engine: RolloutEngine, bench: Bench) -> None:
    """If it provides `partial_rollouts`, `stream_until` gives each request once: whole, or `abort` and how far it came."""
    if "partial_rollouts" not in engine.offers(engine.config):
        raise does_not_apply("it does not provide partial_rollouts")
    with _started(engine) as (engine, student):
        requests = _requests(student, max_new_tokens=40)
        whole = engine.generate(requests)
        for stop_after in (None, 1, 0):
            stop, seen = Event(), set[int]()
            if stop_after == 0:
                stop.set()
            for index, completion in engine.stream_until(stop, requests):
                require(index not in seen, f"request {index} is answered twice")
                seen.add(index)
                if len(seen) == stop_after:
                    stop.set()
                ids, expected = completion.token_ids, whole[index].token_ids
                require(ids == expected[: len(ids)], "a stopped request has other tokens than the whole one")
                require(len(completion.logprobs) == len(ids), "a stopped request has not one log-prob per token")
                stopped = completion.finish_reason == "abort"
                require(stopped or ids == expected, f"a request that is cut short ends with {completion.finish_reason!r}")
                require(stop.is_set() or not stopped, "a request is stopped before `stop` is set")
            require(len(seen) == len(requests), f"{len(seen)} completions for {len(requests)} requests")


@check("rollout")
def check_does_not_change_the_student(engine: RolloutEngine, bench: Bench) -> None:
    """Generating does not change the student's weights, train modes and `requires_grad` flags, nor the global random state."""
    with _started(engine) as (engine, student):
        student.model.train()
        weights = {name: p.detach().clone() for name, p in student.model.named_parameters()}
        flags = [p.requires_grad for p in student.model.parameters()]
        modes = [module.training for module in student.model.modules()]
        torch_state, python_state = torch.get_rng_state(), random.getstate()
        engine.generate(_requests(student))
        engine.rest()
        engine.metrics()
        equal = all(torch.equal(weights[name], p) for name, p in student.model.named_parameters())
        require(equal, "the student's weights changed")
        require(flags == [p.requires_grad for p in student.model.parameters()], "the requires_grad flags changed")
        require(modes == [module.training for module in student.model.modules()], "the train or eval modes changed")
        unchanged = torch.equal(torch_state, torch.get_rng_state()) and python_state == random.getstate()
        require(unchanged, "the global random state changed")
