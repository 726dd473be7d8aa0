"""The laboratory's domains: hand-worked cases, and laws of the first-error oracle on random problems and texts."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rosd_kit.components.tasks import Micro
from rosd_kit.micro.beliefs import SHAKY_RIGHT, SHAKY_SHARE, misconceptions, sampled_belief
from rosd_kit.micro.corpus import MIXTURE, draw_lesson, faulty_solution
from rosd_kit.micro.domains import DOMAINS, SUITES
from rosd_kit.micro.domains.arithmetic import Coins, Sums
from rosd_kit.micro.domains.base import Instance, find_answer, first_error, write_solution
from rosd_kit.micro.domains.clock import Clock
from rosd_kit.model.micro.tokenizer import UNKNOWN, build_tokenizer, vocabulary

SUM = Instance(start=(17,), moves=(("+", 8), ("-", 5), ("+", 9)))
SOLVED = "Step 1 : 17 + 8 = 25 . Step 2 : 25 - 5 = 20 . Step 3 : 20 + 9 = 29 . Answer : 29 ."


def instances() -> st.SearchStrategy[tuple[str, int, int]]:
    return st.tuples(st.sampled_from(list(DOMAINS)), st.integers(1, 6), st.integers(0, 10**9))


def drawn(case: tuple[str, int, int]):
    name, moves, seed = case
    return DOMAINS[name], DOMAINS[name].draw(random.Random(seed), moves)


def test_the_question_and_solution_of_a_sum():
    assert Sums().question(SUM) == "Start at 17 . Add 8 . Subtract 5 . Add 9 . What is the result ?"
    assert write_solution(*Sums().solve(SUM)) == SOLVED


def test_the_clock_wraps_at_twelve():
    assert Clock().solve(Instance(start=(9,), moves=((5,), (7,)))) == (
        ["9 plus 5 hours is 2", "2 plus 7 hours is 9"],
        "9",
    )
    assert Clock().truth((10, 2)) == 12


def test_coins_has_two_purses_and_changes_one():
    instance = Instance(start=(12, "Ann", 9, "Bob"), moves=(("+", 5), ("-", 3)))
    assert Coins().solve(instance) == (["Ann has 12 + 5 = 17", "Ann has 17 - 3 = 14"], "14")
    purses = "Ann has 12 coins . Bob has 9 coins ."
    assert Coins().question(instance) == f"{purses} Ann gets 5 . Ann pays 3 . How many coins has Ann ?"


@pytest.mark.parametrize(
    ("text", "status", "step", "claim", "replacement"),
    [
        (SOLVED, "none", -1, "", ""),
        (SOLVED.replace("Step 2 : ", ""), "none", -1, "", ""),
        ("17+8=25. 25-5=20. 20+9=29. Answer: 29", "none", -1, "", ""),
        (SOLVED.replace("17 + 8", "8 + 17"), "none", -1, "", ""),
        (SOLVED + " Well done .", "none", -1, "", ""),
        (SOLVED.replace("= 20 .", "= 21 ."), "error", 1, "25 - 5 = 21", "25 - 5 = 20"),
        (SOLVED.replace("25 - 5", "5 - 25"), "error", 1, "5 - 25 = 20", "25 - 5 = 20"),
        (SOLVED.replace("Answer : 29", "Answer : 30"), "error", 3, "Answer : 30", "Answer : 29"),
        (SOLVED + " Answer : 7 .", "error", 3, "Answer : 7", "Answer : 29"),
        ("Answer : 29 .", "error", 0, "Answer : 29", "17 + 8 = 25"),
        ("Step 1 : 17 + 8 = 25 . Step 3 : 20 + 9 = 29 .", "error", 1, "20 + 9 = 29", "25 - 5 = 20"),
        ("Step 1 : 17 + 8 = 25 . I like trains .", "unparsable", 1, "I like trains", "25 - 5 = 20"),
        ("Step 1 : 17 + 8 = 25 . Step 2 : 25 -", "incomplete", 1, "", "25 - 5 = 20"),
        ("Step 1 : 17 + 8 = 25 . Step 2 : 25 + ", "unparsable", 1, "25 +", "25 - 5 = 20"),
        ("Step 1 : 17 + 8 = 25 .", "incomplete", 1, "", "25 - 5 = 20"),
        ("", "incomplete", 0, "", "17 + 8 = 25"),
    ],
)
def test_the_first_error_of_hand_worked_cases(text, status, step, claim, replacement):
    error = first_error(Sums(), SUM, text)
    assert (error.status, error.step, error.replacement) == (status, step, replacement)
    assert (text[error.start : error.end] if status != "none" else "") == claim


def test_the_sentence_and_the_idea_of_an_error():
    text = SOLVED.replace("= 20 .", "= 21 .")
    error = first_error(Sums(), SUM, text)
    assert text[error.sentence_start :].startswith("Step 2 : 25")
    assert error.idea == "25 - 5 = 20 . 20 + 9 = 29"


@given(instances())
@settings(max_examples=150)
def test_a_canonical_solution_has_no_error(case):
    domain, instance = drawn(case)
    text = write_solution(*domain.solve(instance))
    assert first_error(domain, instance, text).status == "none"
    assert find_answer(text) == domain.solve(instance)[1]


@given(instances(), st.data())
@settings(max_examples=150)
def test_a_changed_claim_is_found_exactly(case, data):
    domain, instance = drawn(case)
    claims, answer = domain.solve(instance)
    at = data.draw(st.integers(0, len(claims) - 1))
    broken = list(claims)
    broken[at] = broken[at].rsplit(" ", 1)[0] + " 77"
    text = write_solution(broken, answer)
    error = first_error(domain, instance, text)
    assert (error.status, error.step, error.replacement) == ("error", at, claims[at])
    assert text[error.start : error.end] == broken[at]
    assert text[: error.sentence_start].count(" . ") == at


@given(instances(), st.text(max_size=200) | st.lists(st.sampled_from(vocabulary()), max_size=60).map(" ".join))
@settings(max_examples=300)
def test_any_text_has_a_status_and_a_span_inside_it(case, text):
    domain, instance = drawn(case)
    error = first_error(domain, instance, text)
    assert error.status in ("none", "error", "incomplete", "unparsable")
    if error.status != "none":
        assert 0 <= error.sentence_start <= error.start <= error.end <= len(text)
        assert 0 <= error.step <= len(instance.moves)
        assert error.replacement and error.idea


@given(st.integers(0, 10**9))
@settings(max_examples=200)
def test_lessons_use_only_known_words_and_faulty_solutions_have_an_error(seed):
    rng = random.Random(seed)
    lesson = draw_lesson(rng)
    text = f"{lesson.domain.question(lesson.instance)} {lesson.demonstration} {lesson.response} {lesson.idea} {lesson.target}"
    tokenizer = build_tokenizer()
    ids = tokenizer.encode(text, add_special_tokens=False)
    assert tokenizer.convert_tokens_to_ids(UNKNOWN) not in ids
    assert tokenizer.decode(ids) == " ".join(text.split())
    faulty = faulty_solution(lesson.domain, lesson.instance, rng)
    assert first_error(lesson.domain, lesson.instance, faulty).status != "none"


def test_about_the_intended_share_of_facts_is_shaky():
    for domain in DOMAINS.values():
        wrong = misconceptions(type(domain))
        assert abs(len(wrong) / len(domain.facts()) - SHAKY_SHARE) < 0.1
        assert all(result != domain.truth(fact) for fact, result in wrong.items())


def test_a_sampled_belief_is_right_about_shaky_facts_as_often_as_intended():
    believe, domain = sampled_belief(random.Random(0)), DOMAINS["clock"]
    fact = next(iter(misconceptions(Clock)))
    right = sum(believe(domain, fact) == domain.truth(fact) for _ in range(2000)) / 2000
    assert abs(right - SHAKY_RIGHT) < 0.04
    assert sampled_belief(random.Random(0), frozenset({fact}))(domain, fact) == domain.truth(fact)


def test_sums_and_coins_share_facts_and_misconceptions():
    assert misconceptions(Sums) == misconceptions(Coins)


def test_the_vocabulary_is_larger_than_the_default_top_k():
    assert len(vocabulary()) > 128 and len(set(vocabulary())) == len(vocabulary())


def test_the_mixture_is_a_distribution_over_known_suites():
    assert sum(MIXTURE.values()) == pytest.approx(1.0)
    assert all(domain in DOMAINS for domain, _, _ in SUITES.values())


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("So the result is 25.\nAnswer: 25", "25"),
        ("**Answer: 25**", "25"),
        ("**Answer:** 25.", "25"),
        ("Answer: **blue**", "blue"),
        ("Answer : 4 . Answer : 31 .", "31"),
        ("The result is **25**.", None),
    ],
)
def test_answers_are_read_as_chat_models_write_them(text: str, answer: str | None) -> None:
    assert find_answer(text) == answer


def test_the_task_tells_other_models_how_to_answer() -> None:
    plain, told = Micro(), Micro(Micro.Config(system="End with a line like this: Answer: 25"))
    (problem,), (instructed,) = (task.train_batch(step=0, count=1, seed=0) for task in (plain, told))
    assert instructed.messages == ({"role": "system", "content": "End with a line like this: Answer: 25"}, *problem.messages)
    assert (instructed.answer, instructed.solution, instructed.id) == (problem.answer, problem.solution, problem.id)
    assert all(problem.messages[0]["role"] == "system" for suite in told.suites(count=1, seed=0).values() for problem in suite)
