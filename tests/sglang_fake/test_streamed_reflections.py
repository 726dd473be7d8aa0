"""A group is reflected on as soon as it is sampled; the samples equal those of a batch."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import pytest

from rosd_kit.errors import RosdError
from rosd_kit.model.chat import encode_chat
from rosd_kit.pipeline.pipeline import Pipeline
from rosd_kit.plugins.manager import PluginManager
from rosd_kit.recipe import build_components, load_recipe
from tests.sglang_fake.helpers import train
from tests.text.conftest import END, tokenizer_of

RECIPE = Path(__file__).parents[2] / "recipes/rosd.yaml"
CHANGES = (
    "profile=micro",
    "group_size=2",
    "gate=all",
    "demonstration=reference",
    "sampling.max_new_tokens=16",
    "reflector.max_new_tokens=24",
)


class NoStreaming:
    """Wraps an engine that streams and claims that it does not."""

    streams = False

    def __init__(self, engine) -> None:
        self.stream = engine.stream


@pytest.fixture(scope="module")
def plugins() -> PluginManager:
    return PluginManager()


@pytest.fixture
def pipeline_of(student, plugins):
    def build(engine, *changes) -> Pipeline:
        recipe = load_recipe(str(RECIPE), [*CHANGES, *changes], registry=plugins.registry)
        return Pipeline(
            components=build_components(recipe, plugins.registry),
            engine=engine,
            encode=student.prompt_ids,
            sampling=recipe.sampling,
            group_size=recipe.group_size,
            seed=recipe.seed,
        )

    return build


def metrics_without_times(batch):
    return {name: value for name, value in batch.metrics.items() if not name.startswith("time/")}


@pytest.mark.parametrize(
    ("own_server", "change"),
    [(True, "reflector.weights=frozen"), (False, "reflector.weights=frozen"), (False, "reflector.weights=live")],
)
def test_streamed_reflections_give_the_samples_of_a_batch(serve, engine_at, student, pipeline_of, own_server, change):
    live = serve()
    engine = engine_at(live, **({"initial_url": serve().url} if own_server else {}))
    train(student, 0.2)
    engine.sync(student, 1)
    streamed, batched = pipeline_of(engine, change), pipeline_of(NoStreaming(engine), change)
    assert streamed.overlaps and not batched.overlaps
    problems = streamed.components.task.train_batch(step=0, count=3, seed=0)
    batch, expected = streamed.step(problems, 0), batched.step(problems, 0)
    assert len(batch.samples) > 0 and len({sample.problem_id for sample in batch.samples}) > 1
    assert (batch.samples, batch.groups, batch.traces) == (expected.samples, expected.groups, expected.traces)
    assert metrics_without_times(batch) == pytest.approx(metrics_without_times(expected))


def test_reflections_start_before_the_last_rollout_is_finished(serve, engine_at, student, pipeline_of):
    live, frozen = serve(), serve()
    engine = engine_at(live, initial_url=frozen.url, timeout=120)
    reflecting, in_time = threading.Event(), []

    def delay(server, response):
        in_time.append(reflecting.wait(60))
        return response

    def notify(server, response):
        reflecting.set()
        return response

    live.script("generate", delay)
    frozen.script("generate", notify)
    pipeline = pipeline_of(engine)
    problems = pipeline.components.task.train_batch(step=0, count=3, seed=0)
    batch = pipeline.step(problems, 0)
    assert in_time == [True]
    assert [group.problem.id for group in batch.groups] == [problem.id for problem in problems], "groups keep their order"
    assert len(frozen.payloads("generate")) == len(batch.traces) == 6


@pytest.mark.parametrize("own_server", [True, False])
def test_an_error_in_one_group_ends_the_step_while_others_reflect(serve, engine_at, student, pipeline_of, own_server):
    live, frozen = serve(), serve()
    engine = engine_at(live, timeout=120, **({"initial_url": frozen.url} if own_server else {}))
    pipeline = pipeline_of(engine)
    frozen.script("generate", *["hang"] * 100)

    class Broken(RosdError):
        """An error that the user can fix: it ends the step. Any other would only fail the group."""

    verified = []

    def verify_group(problem, texts, verify=pipeline.components.verifier.verify_group):
        verified.append(problem)
        if len(verified) == 2:
            raise Broken
        return verify(problem, texts)

    pipeline.components.verifier.verify_group = verify_group
    with pytest.raises(Broken) as error:
        pipeline.step(pipeline.components.task.train_batch(step=0, count=3, seed=0), 0)
    waiting = [thread for thread in threading.enumerate() if thread.name.startswith("rosd-kit-reflect")]
    assert waiting
    engine.close()
    for thread in waiting:
        thread.join(60)
        assert not thread.is_alive(), "or the program would never exit"
    assert error.traceback, "it keeps the unfinished rollouts alive, so that they do not end by themselves"


def test_many_threads_encode_prompts_correctly_at_once():
    """Whether special tokens are recognized is state of the tokenizer, and a response may contain their text."""
    tokenizer = tokenizer_of("byte_level")
    tokenizer.chat_template = f"{{% for message in messages %}}{END}{{{{ message['content'] }}}}{END}{{% endfor %}}"
    chats = [[{"role": "user", "content": text}] for text in ("the answer is 42", f"the {END} answer {END} " * 10)]
    expected = [encode_chat(tokenizer, chat, {}) for chat in chats]
    wrong = []

    def encode(index):
        for _ in range(150):
            encoded = encode_chat(tokenizer, chats[index], {})
            wrong.extend([encoded] if encoded != expected[index] else [])

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        threads = [threading.Thread(target=encode, args=(number % 2,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(before)
    assert wrong == []
