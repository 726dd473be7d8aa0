"""The embedded model `micro-reasoning`: it is there, small, and does what its profile asks of it."""

from __future__ import annotations

import random

import pytest

from rosd_kit.components.reflectors.tutor import read_reflection
from rosd_kit.components.rollouts.transformers import TransformersEngine
from rosd_kit.components.tasks.micro_reasoning_corpus import MicroReasoningCorpus
from rosd_kit.errors import RunError
from rosd_kit.micro.reasoning.lessons import JourneyLesson, draw_demonstration, draw_wrong
from rosd_kit.micro.reasoning.text import find_answer, read, write
from rosd_kit.micro.reasoning.worlds import SUITES, draw_journey
from rosd_kit.model.micro import model as embedded
from rosd_kit.model.micro.model import base_path
from rosd_kit.model.student import Student
from rosd_kit.settings import ModelSettings
from rosd_kit.types import GenerateRequest, Sampling

COUNT = 24


@pytest.fixture(scope="module")
def answers():
    """What the model answers greedily to lessons of three kinds on the same problems, with their problems and texts."""
    student = Student.load(ModelSettings(path="micro-reasoning", device="cpu"), keep_initial=False)
    engine, corpus, rng = TransformersEngine(), MicroReasoningCorpus(), random.Random("embedded")
    engine.start(student)
    journeys = [draw_journey(rng, *SUITES["woods"]) for _ in range(COUNT)]
    wrong = [draw_wrong(journey, rng) for journey in journeys]
    shown = [draw_demonstration(journey, rng) for journey in journeys]
    lessons = [
        JourneyLesson(
            kind=kind, suite="woods", journey=journey, like=True, target="", response=response, demonstration=write(solution)
        )
        for kind in ("solve", "reflect_wrong", "solution")
        for journey, response, solution in zip(journeys, wrong, shown, strict=True)
    ]
    prompts = [student.prompt_ids(corpus.problem(lesson, "x").messages) for lesson in lessons]
    sampling = Sampling(temperature=0.0, max_new_tokens=200)
    completions = engine.generate([GenerateRequest(prompt_ids=ids, sampling=sampling, seed=0) for ids in prompts])
    parts = [completions[at : at + COUNT] for at in range(0, len(completions), COUNT)]
    return dict(zip(("solve", "reflect", "copy"), parts, strict=True)), journeys, wrong


def test_solutions_are_in_the_language_and_end(answers):
    texts = answers[0]["solve"]
    readable = [all(sentence.statement is not None for sentence in read(one.text)) for one in texts]
    assert sum(readable) >= COUNT - 2 and sum(find_answer(one.text) is not None for one in texts) >= COUNT - 2


def test_reflections_keep_the_format_and_quote_the_response(answers):
    found = [read_reflection(one, right=False) for one in answers[0]["reflect"]]
    assert sum(one.status == "ok" for one in found) >= COUNT - 4
    assert sum((one.quote or "?") in text for one, text in zip(found, answers[2], strict=True)) >= COUNT // 2


def test_a_shown_solution_makes_it_right_more_often(answers):
    by, journeys, _ = answers
    alone, shown = (
        sum(find_answer(one.text) == journey.answer() for one, journey in zip(by[kind], journeys, strict=True))
        for kind in ("solve", "copy")
    )
    assert shown > alone


def test_the_weights_are_small():
    assert sum(file.stat().st_size for file in base_path("micro-reasoning").iterdir()) < 12 * 2**20


@pytest.mark.parametrize("name", ["micro", "micro-reasoning"])
def test_an_installation_without_weights_names_the_recipe_that_trains_them(name, monkeypatch, tmp_path):
    monkeypatch.setattr(embedded, "__file__", str(tmp_path / "model.py"))
    with pytest.raises(RunError, match=rf"model\.path: '{name}' needs the embedded model.*recipes/micro/\w+\.yaml"):
        base_path(name)
