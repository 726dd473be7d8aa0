"""A step ends when it has its groups; what is open is stopped, and continues in the next step where it was."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from rosd_kit.display import Display
from rosd_kit.errors import RecipeError
from rosd_kit.files import read_json_lines
from rosd_kit.pipeline.open_groups import OpenGroups
from rosd_kit.pipeline.pipeline import Pipeline
from rosd_kit.plugins.manager import PluginManager
from rosd_kit.recipe import build_components, load_recipe
from rosd_kit.run.loop import run_recipe
from rosd_kit.training.checkpoint import load_state
from rosd_kit.types import Completion
from tests.sglang_fake.helpers import expected, ids, requests_for, train

RECIPE = Path(__file__).parents[2] / "recipes/rosd.yaml"
SMALL = (
    *("profile=micro", "rollout=sglang", "problems_per_step=2", "group_size=2"),
    *("gate=all", "demonstration=reference", "reflector=none", "context=solution", "localizer=full"),
    "sampling.max_new_tokens=24",
)


def recipe_of(*changes):
    plugins = PluginManager()
    return load_recipe(str(RECIPE), [*SMALL, *changes], registry=plugins.registry), plugins


@pytest.fixture
def pipeline_of(student):
    def build(engine, *changes) -> Pipeline:
        recipe, plugins = recipe_of(*changes)
        return Pipeline.of(recipe, build_components(recipe, plugins.registry), student, engine=engine)

    return build


def collect(engine, requests, stop, *, after):
    """Return the completions of a stream that is stopped after so many of them."""
    completions = {}
    for place, completion in engine.stream_until(stop, requests):
        completions[place] = completion
        if len(completions) == after:
            stop.set()
    return [completions[place] for place in range(len(requests))]


def test_stopped_requests_give_the_beginning_of_what_they_would_have_given(serve, engine_at, student):
    server = serve()
    server.pace = 0.05
    engine = engine_at(server, concurrency=4)
    requests = [*requests_for(student, 2, max_new_tokens=3), *requests_for(student, 6, max_new_tokens=40)]
    completions = collect(engine, requests, threading.Event(), after=2)
    for completion, whole in zip(completions, expected(student, requests), strict=True):
        assert completion.token_ids == whole[: len(completion.token_ids)]
        assert len(completion.logprobs) == len(completion.token_ids)
        assert (completion.finish_reason == "abort") == (completion.token_ids != whole)
    stopped = [len(completion.token_ids) for completion in completions if completion.finish_reason == "abort"]
    assert min(stopped) == 0 < max(stopped), "some had not begun, some had"
    assert engine.metrics().get("engine/retries", 0) == 0 and not server.open
    server.pace = 0.0
    assert ids(engine.generate(requests)) == expected(student, requests), "later requests are whole"


def test_requests_that_a_server_lets_wait_are_stopped_without_a_fault(serve, engine_at, student):
    server = serve()
    server.pace, server.slots = 0.1, threading.Semaphore(1)
    engine = engine_at(server)
    completions = collect(engine, requests_for(student, 8, max_new_tokens=10), threading.Event(), after=1)
    assert any(completion.token_ids == () for completion in completions), "none had not begun"
    assert not {name for name in engine.metrics() if "fault" in name or "retries" in name}


def test_a_rollout_that_is_stopped_with_its_last_token_is_complete(serve, engine_at, student, pipeline_of):
    """A real server gives the abort as the reason, although the budget is used up; there is nothing to continue."""
    server = serve()
    server.pace = 0.03
    pipeline = pipeline_of(engine_at(server), "sampling.max_new_tokens=4")
    groups = OpenGroups(lambda step: pipeline.components.task.train_batch(step=step, count=2, seed=0), wanted=4, size=2)
    opened_in: dict[str, int] = {}
    for step in range(5):
        opened = groups.take()
        for group in opened:
            assert step - opened_in.setdefault(group.problem.id, step) <= 2, "a group stays open for good"
        batch, left = pipeline.step_until(opened, step, 2)
        groups.put_back(left)
        tokens = [one for group in left for one in group.completions if one is not None]
        assert all(len(one.token_ids) < 4 or one.finish_reason != "abort" for one in tokens)
        assert len(batch.groups) == 2


def test_a_server_that_ends_a_request_by_itself_is_asked_again(serve, engine_at, student):
    server = serve()
    server.pace = 0.02
    engine = engine_at(server)
    requests = requests_for(student, 1, max_new_tokens=30)
    stream = engine.stream_until(threading.Event(), requests)
    results = []
    asking = threading.Thread(target=lambda: results.extend(stream))
    asking.start()
    while not server.open:
        pass
    next(iter(server.open.values())).set()
    asking.join(60)
    assert [completion.token_ids for _, completion in results] == expected(student, requests)
    assert engine.metrics()["engine/retries"] == 1


def test_steps_take_what_is_complete_and_continue_the_rest(serve, engine_at, student, pipeline_of):
    """While the weights change: nothing is lost, and what was sampled keeps its ids and the log-probs of its own weights."""
    server = serve()
    server.pace = 0.02
    engine = engine_at(server)
    pipeline = pipeline_of(engine)
    groups = OpenGroups(lambda step: pipeline.components.task.train_batch(step=step, count=2, seed=0), wanted=4, size=2)
    seen: list[str] = []
    parts: dict[tuple[str, int], list[Completion]] = {}
    for step in range(4):
        opened = groups.take()
        batch, left = pipeline.step_until(opened, step, 2)
        groups.put_back(left)
        taken = [group.problem.id for group in batch.groups]
        assert sorted([*taken, *(one.problem.id for one in left)]) == sorted(one.problem.id for one in opened)
        assert (len(taken), len(left)) == (2, 2)
        seen += taken
        for group in batch.groups:
            for rollout in group.rollouts:
                check_continued(rollout.completion, parts.get((group.problem.id, rollout.index), []))
        for one in left:
            for member, completion in enumerate(one.completions):
                if completion is not None and completion.finish_reason == "abort":
                    parts.setdefault((one.problem.id, member), []).append(completion)
        train(student, 0.05)
        engine.sync(student, step + 1)
    assert len(set(seen)) == len(seen) == 8 and parts


def check_continued(whole: Completion, parts: list[Completion]) -> None:
    assert whole.finish_reason in ("stop", "length") and len(whole.token_ids) <= 24
    assert len(whole.token_spans) == len(whole.logprobs) == len(whole.token_ids)
    for part in parts:
        assert whole.token_ids[: len(part.token_ids)] == part.token_ids
        assert whole.logprobs[: len(part.logprobs)] == part.logprobs
        assert (whole.prompt_ids, whole.weight_version) == (part.prompt_ids, parts[0].weight_version)


def run(out, server, *changes, resume=None):
    recipe, plugins = recipe_of(
        *(f"rollout.url={server.url}", "steps=4", "evaluation.problems=0", "checkpoint.every=1", "checkpoint.keep=9"),
        *("sampling.extra_problems=2", "model.device=cpu", *changes),
    )
    return run_recipe(recipe, plugins=plugins, out=out, name="run", resume=resume, display=Display()).path


def test_a_run_counts_continued_tokens_and_their_age_and_resumes_with_what_was_open(serve, tmp_path):
    server = serve()
    server.pace = 0.01
    folder = run(tmp_path, server, "steps=2")
    saved = load_state(max((folder / "checkpoints").iterdir()))["open_groups"]
    assert saved["next_step"] == 3 and len(saved["open"]) == 2
    held = [
        tuple(one["token_ids"])
        for group in saved["open"]
        for one in group["completions"]
        if one and one["finish_reason"] == "abort"
    ]
    asked = len(server.payloads("/generate"))
    run(tmp_path, server, "steps=4", resume=folder)
    steps = list(read_json_lines(folder / "metrics.jsonl"))
    assert [step["step"] for step in steps] == [1, 2, 3, 4]
    assert all(step["rollout/count"] == 4 for step in steps)
    assert steps[0]["tokens/continued"] == steps[0]["rollout/staleness"] == 0
    assert sum(step["tokens/continued"] for step in steps[1:]) > 0 and sum(step["rollout/staleness"] for step in steps[1:]) > 0
    prompts = [payload["input_ids"] for payload in server.payloads("/generate")[asked:]]
    assert held and all(any(tuple(prompt[-len(part) :]) == part for prompt in prompts) for part in held), (
        "what was open went on"
    )


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (["rollout=transformers"], ["sampling.extra_problems: 2 needs an engine that stops", "sglang"]),
        (["correction=none"], ["sampling.extra_problems: 2 needs a correction", "truncated"]),
        (["sampling.prefetch=1"], ["sampling.prefetch: 1 and sampling.extra_problems exclude each other"]),
        (["rollout.url=http://127.0.0.1:1", "rollout.router=http://127.0.0.1:2"], ["unless rollout.router is set"]),
    ],
)
def test_what_extra_problems_need_is_said_when_the_recipe_loads(changes, words):
    with pytest.raises(RecipeError) as error:
        recipe_of("sampling.extra_problems=2", *changes)
    assert all(word in str(error.value) for word in words), error.value
