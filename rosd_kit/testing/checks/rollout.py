"""The laws of rollout engines, on a tiny real student: the tokens that were drawn, and the numbers the model gives them."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch

from rosd_kit.contracts import RolloutEngine, Site
from rosd_kit.model.student import Student
from rosd_kit.testing.builders import SOLUTION
from rosd_kit.testing.check import Bench, another, check, demand, does_not_apply
from rosd_kit.testing.student import tiny_student
from rosd_kit.text.spans import decode_with_spans
from rosd_kit.types import Completion, GenerateRequest, Sampling

_CLOSE = 2e-3
_QUESTIONS = ("Start at 17 . Add 8 .", "What is 1 + 2 + 3 ?", "Ann has 9 coins")


@contextmanager
def _started(engine: RolloutEngine) -> Iterator[tuple[RolloutEngine, Student]]:
    """Yield a new engine with these options, started on a tiny student that ends a response at every tenth id."""
    fresh: RolloutEngine = another(engine)
    student = tiny_student()
    student.model.generation_config.eos_token_id = [student.tokenizer.eos_token_id, *range(0, student.vocabulary, 10)]
    fresh.start(student, Site())
    try:
        yield fresh, student
    finally:
        fresh.close()


def _asking(
    student: Student, *, temperature: float = 1.0, most: int = 12, seeds: Sequence[int] = (0, 1)
) -> list[GenerateRequest]:
    sampling = Sampling(temperature=temperature, max_new_tokens=most)
    prompts = [student.prompt_ids([{"role": "user", "content": question}]) for question in _QUESTIONS]
    return [GenerateRequest(prompt_ids=p, sampling=sampling, seed=s, reference=SOLUTION) for p in prompts for s in seeds]


@torch.no_grad()
def _logits(student: Student, done: Completion) -> torch.Tensor:
    """Return the model's own logits at each sampled token."""
    found: torch.Tensor = student.model(input_ids=torch.tensor([(*done.prompt_ids, *done.token_ids)])).logits[0]
    return found[len(done.prompt_ids) - 1 : -1]


@check("rollout")
def check_ids_in_are_ids_out(engine: RolloutEngine, bench: Bench) -> None:
    """Completions come in the requests' order with the requests' prompt ids; each token has a log-prob and a span.

    Token ids are whole numbers of the model's vocabulary, as they were drawn; no request has no completion.
    """
    with _started(engine) as (engine, student):
        demand(engine.generate([]) == [], "no request is answered with a completion")
        requests = _asking(student)
        done = engine.generate(requests)
        demand(len(done) == len(requests), f"{len(done)} completions for {len(requests)} requests")
        for request, completion in zip(requests, done, strict=True):
            demand(completion.prompt_ids == request.prompt_ids, "a completion's prompt ids are not those of its request")
            lengths = {len(completion.token_ids), len(completion.logprobs), len(completion.token_spans)}
            demand(len(lengths) == 1, f"{sorted(lengths)} token ids, log-probs and spans")
            known = all(isinstance(i, int) and 0 <= i < student.vocabulary for i in completion.token_ids)
            demand(known, f"token ids {completion.token_ids} in a vocabulary of {student.vocabulary}")


@check("rollout")
def check_text_is_that_of_the_ids(engine: RolloutEngine, bench: Bench) -> None:
    """`text` and `token_spans` are those of the token ids, special tokens left out: quotes are found in it."""
    with _started(engine) as (engine, student):
        for done in engine.generate(_asking(student)):
            text, spans = decode_with_spans(student.tokenizer, done.token_ids)
            demand(done.text == text, f"the text is {done.text!r}, the ids say {text!r}")
            demand(list(done.token_spans) == spans, f"the spans are {done.token_spans}, the ids say {spans}")


@check("rollout")
def check_stops(engine: RolloutEngine, bench: Bench) -> None:
    """A response ends at its first end token, which belongs to it (`stop`), or at `max_new_tokens` (`length`)."""
    with _started(engine) as (engine, student):
        for most in (1, 5, 30):
            for done in engine.generate(_asking(student, most=most, seeds=range(4))):
                ends = [place for place, token in enumerate(done.token_ids) if token in student.end_ids]
                demand(0 < len(done.token_ids) <= most, f"{len(done.token_ids)} tokens where {most} are allowed")
                if done.finish_reason == "stop":
                    demand(
                        ends == [len(done.token_ids) - 1], f"'stop', and its end tokens are at {ends} of {len(done.token_ids)}"
                    )
                else:
                    whole = not ends and len(done.token_ids) == most and done.finish_reason == "length"
                    demand(whole, f"{done.finish_reason!r} after {len(done.token_ids)} of {most} tokens, end tokens at {ends}")


@check("rollout")
def check_logprobs_are_the_models(engine: RolloutEngine, bench: Bench) -> None:
    """`logprobs` are log softmax(logits / temperature) of the model itself, in nats; weakened by `replays = True`."""
    if engine.replays:
        raise does_not_apply("it claims replays")
    with _started(engine) as (engine, student):
        for temperature in (0.6, 1.0, 1.7):
            for done in engine.generate(_asking(student, temperature=temperature)):
                own = torch.log_softmax(_logits(student, done) / temperature, dim=-1)
                own = own.gather(1, torch.tensor(done.token_ids)[:, None]).squeeze(1)
                gap = (own - torch.tensor(done.logprobs)).abs().max()
                demand(gap < _CLOSE, f"at temperature {temperature} a log-prob is {gap:.3g} nats from the model's")


@check("rollout")
def check_greedy_is_the_likeliest(engine: RolloutEngine, bench: Bench) -> None:
    """At temperature 0 every token is the model's likeliest, whatever the seed; weakened by `replays = True`."""
    if engine.replays:
        raise does_not_apply("it claims replays")
    with _started(engine) as (engine, student):
        for done in engine.generate(_asking(student, temperature=0.0)):
            logits = _logits(student, done)
            behind = logits.max(-1).values - logits.gather(1, torch.tensor(done.token_ids)[:, None]).squeeze(1)
            demand(behind.max() < _CLOSE, f"a token's logit is {behind.max():.3g} below the largest")


@check("rollout")
def check_seeds_decide(engine: RolloutEngine, bench: Bench) -> None:
    """The same request has the same tokens again, alone or among others; other seeds have others.

    Neither the global random state nor the place in the batch plays a part. Different seeds may agree with `replays = True`.
    """
    with _started(engine) as (engine, student):
        requests = _asking(student, seeds=range(4))
        first = engine.generate(requests)
        random.seed(99)
        with torch.random.fork_rng():
            torch.manual_seed(99)
            again = engine.generate(requests[::-1])[::-1]
            alone = engine.generate(requests[:1])
        for one, other in zip(first, again, strict=True):
            demand(one.token_ids == other.token_ids, f"the same request gave {one.token_ids} and then {other.token_ids}")
        demand(alone[0].token_ids == first[0].token_ids, "alone a request has other tokens than among others")
        apart = len({c.token_ids for c in first[:4]}) > 1
        demand(apart or engine.replays, "four seeds of one prompt gave the same tokens")


@check("rollout")
def check_overlong_is_an_outcome(engine: RolloutEngine, bench: Bench) -> None:
    """A prompt that fills the model's window is a completion `overlong` without tokens; the others are answered.

    An engine that `replays` has no window.
    """
    if engine.replays:
        raise does_not_apply("it claims replays")
    with _started(engine) as (engine, student):
        ordinary = _asking(student)[0]
        window = student.model.config.max_position_embeddings
        too_long = GenerateRequest(prompt_ids=(ordinary.prompt_ids * window)[: window + 1], sampling=ordinary.sampling, seed=0)
        over, fine = engine.generate([too_long, ordinary])
        nothing = (over.token_ids, over.logprobs, over.text) == ((), (), "")
        demand(over.finish_reason == "overlong" and nothing, f"{over.finish_reason!r} with {len(over.token_ids)} tokens")
        demand(len(fine.token_ids) > 0, "the request beside an overlong one has no tokens")


@check("rollout")
def check_follows_the_weights(engine: RolloutEngine, bench: Bench) -> None:
    """After `sync` it generates with the student's new weights under the new label; `initial` still means the first ones."""
    if engine.replays:
        raise does_not_apply("it claims replays")
    with _started(engine) as (engine, student):
        requests = _asking(student)
        before = engine.generate(requests)
        with torch.no_grad():
            for place, parameter in enumerate(student.model.parameters()):
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(place)))
        engine.sync(student, 3)
        live, initial = engine.generate(requests), engine.generate(requests, weights="initial")
        demand(
            {c.weight_version for c in live} == {3}, f"after sync 3 the versions are {sorted({c.weight_version for c in live})}"
        )
        demand([c.token_ids for c in initial] == [c.token_ids for c in before], "weights='initial' are not the first ones")
        for done in live:
            own = torch.log_softmax(_logits(student, done), dim=-1).gather(1, torch.tensor(done.token_ids)[:, None]).squeeze(1)
            gap = (own - torch.tensor(done.logprobs)).abs().max()
            demand(gap < _CLOSE, f"after sync a log-prob is {gap:.3g} nats from the student's")


@check("rollout")
def check_streams_the_same(engine: RolloutEngine, bench: Bench) -> None:
    """`stream` yields each request's index once, with the completion that `generate` gives."""
    with _started(engine) as (engine, student):
        requests = _asking(student)
        streamed = list(engine.stream(requests))
        places = sorted(place for place, _ in streamed)
        demand(places == list(range(len(requests))), f"it yields the indexes {places} for {len(requests)} requests")
        expected = [c.token_ids for c in engine.generate(requests)]
        demand(all(c.token_ids == expected[place] for place, c in streamed), "a streamed completion is another request's")


@check("rollout")
def check_leaves_the_student_alone(engine: RolloutEngine, bench: Bench) -> None:
    """Generating changes neither the student's weights, modes and flags nor the global random state."""
    with _started(engine) as (engine, student):
        student.model.train()
        weights = {name: p.detach().clone() for name, p in student.model.named_parameters()}
        flags = [p.requires_grad for p in student.model.parameters()]
        modes = [module.training for module in student.model.modules()]
        state, python = torch.get_rng_state(), random.getstate()
        engine.generate(_asking(student))
        engine.rest()
        engine.metrics()
        same = all(torch.equal(weights[name], p) for name, p in student.model.named_parameters())
        demand(same, "the student's weights changed")
        demand(flags == [p.requires_grad for p in student.model.parameters()], "which weights are trained changed")
        demand(modes == [module.training for module in student.model.modules()], "train or eval modes changed")
        demand(torch.equal(state, torch.get_rng_state()) and python == random.getstate(), "the global random state changed")
