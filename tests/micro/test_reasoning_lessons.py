"""The lessons of `micro-reasoning`: what a solver takes from a text that it reads, and what prompts and targets look like."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from rosd_kit.components.reflectors.tutor import read_reflection
from rosd_kit.components.tasks.micro_reasoning import as_problem
from rosd_kit.components.tasks.micro_reasoning_corpus import LIKE, OWN, MicroReasoningCorpus
from rosd_kit.micro.reasoning.guide import Guide, facts_of, read_facts, steps_by_heart, steps_of
from rosd_kit.micro.reasoning.lessons import MIXTURE, draw_demonstration, draw_lesson, draw_wrong
from rosd_kit.micro.reasoning.oracle import first_error, write_idea
from rosd_kit.micro.reasoning.solver import HABITS, Habits, solve
from rosd_kit.micro.reasoning.text import Check, Correction, Leg, Move, SlowMove, find_answer, write
from rosd_kit.micro.reasoning.worlds import SUITES, draw_journey
from rosd_kit.model.micro.tokenizer import MAX_TOKENS, UNKNOWN, build_tokenizer
from rosd_kit.types import Completion

SURE = Habits(shaky=0.0, slip=0.0)


def journeys(suite="woods", count=40):
    rng = random.Random(f"lessons {suite}")
    return [(draw_journey(rng, *SUITES[suite]), rng) for _ in range(count)]


def test_whoever_follows_a_solution_wholly_writes_it_again():
    for journey, rng in journeys():
        shown = solve(journey, rng, SURE)
        guide = Guide(facts=facts_of(shown), steps=steps_of(shown), follows=1.0)
        assert write(solve(journey, rng, HABITS["woods"], guide)) == write(shown)


def test_a_solution_that_is_only_believed_leaves_order_and_way_to_the_solver():
    same = 0
    for journey, rng in journeys(count=60):
        shown = solve(journey, rng, replace(SURE, slow=0.0, check=0.0))
        text = write(solve(journey, rng, replace(HABITS["woods"], slow=0.0, check=0.0), Guide(facts=facts_of(shown))))
        assert find_answer(text) == journey.answer()  # every path fact was shown
        same += text == write(shown)
    assert same < 30


def test_an_idea_makes_its_facts_certain_and_leaves_what_was_before_as_it_was():
    wrong_before = 0
    for journey, rng in journeys("mines", 80):
        response = draw_wrong(journey, rng)
        error = first_error(journey, response)
        facts = read_facts(error.idea)
        text = write(solve(journey, rng, replace(HABITS["mines"], slow=0.0, check=0.0), Guide(facts=facts)))
        known = {(word, start): end for word, start, end in facts}
        for word, start, end in read_facts(text.replace(" from ", " ").replace(" takes ", " ").replace(" to ", " ")):
            assert known.get((word, start), end) == end
        wrong_before += find_answer(text) != journey.answer()
    assert 10 < wrong_before < 80


def test_an_idea_of_a_right_solution_solves_the_problem():
    for journey, rng in journeys("mines"):
        guide = Guide(facts=read_facts(write_idea(journey)))
        assert first_error(journey, write(solve(journey, rng, HABITS["mines"], guide))).status == "none"


def test_facts_are_read_from_moves_legs_and_corrected_checks():
    legs = (Leg(start=3, track="moss", end=6), Leg(start=6, track="fern", end=10))
    shown = [
        Move(who="Ann", path="oak", start=3, end=9),
        Check(who="Ann", tracks=("moss", "fern"), legs=legs, verdict="wrong"),
        Correction(who="Ann", place=10),
        SlowMove(who="Bob", path="elm", tracks=("moss", "fern"), legs=legs),
    ]
    known = {(word, start): end for word, start, end in facts_of(shown)}
    assert known == {("oak", 3): 10, ("moss", 3): 6, ("fern", 6): 10, ("elm", 3): 10}
    assert [(step.who, step.slow, step.checked) for step in steps_of(shown)] == [("Ann", False, True), ("Bob", True, False)]
    assert read_facts("3 to 10 . 3 oak 10 . 7 elm 2") == (("oak", 3, 10), ("elm", 7, 2))


def test_the_moves_that_an_idea_states_are_made_by_heart_if_it_is_followed():
    for journey, rng in journeys():
        facts = read_facts(write_idea(journey))
        guide = Guide(facts=facts, steps=steps_by_heart(journey, facts), follows=1.0)
        text = solve(journey, rng, HABITS["woods"], guide)
        assert not any(isinstance(one, SlowMove | Check) for one in text)


def test_demonstrations_are_right_and_their_manners_differ():
    slow = []
    for suite in SUITES:
        for journey, rng in journeys(suite, 30):
            shown = draw_demonstration(journey, rng)
            assert first_error(journey, write(shown)).status == "none"
            steps = steps_of(shown)
            slow.append(sum(step.slow for step in steps) / len(steps))
    assert min(slow) == 0 and max(slow) == 1


def test_wrong_solutions_have_an_error_and_no_right_answer():
    for suite in SUITES:
        for journey, rng in journeys(suite, 20):
            text = draw_wrong(journey, rng)
            assert first_error(journey, text).status != "none" and find_answer(text) != journey.answer()


@pytest.fixture(scope="module")
def lessons():
    task = MicroReasoningCorpus()
    return [problem for step in range(12) for problem in task.train_batch(step=step, count=64, seed=3)]


def test_every_word_of_the_lessons_is_known_and_they_fit_the_model(lessons):
    tokenizer = build_tokenizer("micro-reasoning")
    unknown, longest = tokenizer.convert_tokens_to_ids(UNKNOWN), 0
    for problem in lessons:
        text = tokenizer.apply_chat_template(list(problem.messages), tokenize=False) + problem.solution
        ids = tokenizer(text)["input_ids"]
        assert unknown not in ids, problem
        longest = max(longest, len(ids))
    assert longest <= MAX_TOKENS


def test_prompts_ask_for_either_manner_where_they_show_a_text(lessons):
    guided = [p.messages[-1]["content"] for p in lessons if p.suite in ("solution", "idea", "solution_and_idea")]
    assert all((LIKE in text) != (OWN in text) for text in guided)
    assert all(any(sign in text for text in guided) for sign in (LIKE, OWN))
    assert {p.suite for p in lessons} == set(MIXTURE) - {"unrelated", "wrong_solution"}


def test_reflections_are_read_as_they_are_meant(lessons):
    for problem in lessons:
        if problem.suite == "reflect_wrong":
            content = problem.messages[-1]["content"]
            response = content.split(" Wrong solution : ")[1].removesuffix(" Find first error .")
            completion = Completion(
                prompt_ids=(), token_ids=(), logprobs=(), text=problem.solution, token_spans=(), finish_reason="stop"
            )
            reflection = read_reflection(completion, right=False)
            assert reflection.idea and (reflection.quote or "") in response


def test_lessons_depend_on_their_seed_alone():
    first, again = (draw_lesson(random.Random("one")) for _ in range(2))
    assert first == again and first != draw_lesson(random.Random("two"))
    assert sum(MIXTURE.values()) == pytest.approx(1.0)
    assert as_problem(first.journey, suite=first.suite, id="x").suite in SUITES
