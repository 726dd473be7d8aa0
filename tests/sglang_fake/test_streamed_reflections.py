"""A group is reflected on as soon as it is sampled; what comes of it is what comes of a batch."""

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
from tests.sglang_fake.asking import train
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


class AtOnce:
    """Passes requests on to an engine that streams, and says that it does not."""

    streams = False

    def __init__(self, engine) -> None:
        self.stream = engine.stream


@pytest.fixture(scope="module")
def plugins() -> PluginManager:
    return PluginManager()


@pytest.fixture
def pipeline_of(student, plugins):
    def make(engine, *changes) -> Pipeline:
        recipe = load_recipe(str(RECIPE), [*CHANGES, *changes], registry=plugins.registry)
        return Pipeline(
            components=build_components(recipe, plugins.registry),
            engine=engine,
            encode=student.prompt_ids,
            sampling=recipe.sampling,
            group_size=recipe.group_size,
            seed=recipe.seed,
        )

    return make


def counted(batch):
    return {name: value for name, value in batch.metrics.items() if not name.startswith("time/")}


@pytest.mark.parametrize(
    ("own_server", "change"),
    [(True, "reflector.weights=frozen"), (False, "reflector.weights=frozen"), (False, "reflector.weights=live")],
)
def test_the_samples_are_those_of_a_batch(serve, engine_at, student, pipeline_of, own_server, change):
    live = serve()
    engine = engine_at(live, **({"initial_url": serve().url} if own_server else {}))
    train(student, 0.2)
    engine.sync(student, 1)
    early, in_turn = pipeline_of(engine, change), pipeline_of(AtOnce(engine), change)
    assert early.overlaps and not in_turn.overlaps
    problems = early.components.task.train_batch(step=0, count=3, seed=0)
    found, expected = early.step(problems, 0), in_turn.step(problems, 0)
    assert len(found.samples) > 0 and len({sample.problem_id for sample in found.samples}) > 1
    assert (found.samples, found.groups, found.traces) == (expected.samples, expected.groups, expected.traces)
    assert counted(found) == pytest.approx(counted(expected))


def test_reflections_begin_before_the_last_rollout_is_finished(serve, engine_at, student, pipeline_of):
    live, frozen = serve(), serve()
    engine = engine_at(live, initial_url=frozen.url, timeout=30)
    reflecting, in_time = threading.Event(), []

    def hold_back(server, answer):
        in_time.append(reflecting.wait(20))
        return answer

    def reflected(server, answer):
        reflecting.set()
        return answer

    live.script("generate", hold_back)
    frozen.script("generate", reflected)
    pipeline = pipeline_of(engine)
    problems = pipeline.components.task.train_batch(step=0, count=3, seed=0)
    batch = pipeline.step(problems, 0)
    assert in_time == [True]
    assert [group.problem.id for group in batch.groups] == [problem.id for problem in problems], "in order nevertheless"
    assert len(frozen.asked("generate")) == len(batch.traces) == 6


@pytest.mark.parametrize("own_server", [True, False])
def test_an_error_while_others_reflect_ends_the_step(serve, engine_at, student, pipeline_of, own_server):
    live, frozen = serve(), serve()
    engine = engine_at(live, timeout=60, **({"initial_url": frozen.url} if own_server else {}))
    pipeline = pipeline_of(engine)
    frozen.script("generate", *["hang"] * 100)

    class Broken(RosdError):
        """What a user can mend ends the step; anything else would cost the group alone."""

    seen = []

    def verify_group(problem, texts, verify=pipeline.components.verifier.verify_group):
        seen.append(problem)
        if len(seen) == 2:
            raise Broken
        return verify(problem, texts)

    pipeline.components.verifier.verify_group = verify_group
    with pytest.raises(Broken) as error:
        pipeline.step(pipeline.components.task.train_batch(step=0, count=3, seed=0), 0)
    waiting = [thread for thread in threading.enumerate() if thread.name.startswith("rosd-kit-reflect")]
    assert waiting
    engine.close()
    for thread in waiting:
        thread.join(5)
        assert not thread.is_alive(), "or the program would never end"
    assert error.traceback, "which holds the unfinished rollouts, so that they do not end by themselves"


def test_prompts_are_encoded_right_by_many_threads_at_once():
    """Whether special tokens mean anything is a state of the tokenizer, and a response may hold their text."""
    tokenizer = tokenizer_of("byte_level")
    tokenizer.chat_template = f"{{% for message in messages %}}{END}{{{{ message['content'] }}}}{END}{{% endfor %}}"
    chats = [[{"role": "user", "content": text}] for text in ("the answer is 42", f"the {END} answer {END} " * 10)]
    expected = [encode_chat(tokenizer, chat, {}) for chat in chats]
    wrong = []

    def encode(which):
        for _ in range(150):
            found = encode_chat(tokenizer, chats[which], {})
            wrong.extend([found] if found != expected[which] else [])

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
