"""The laboratory's tasks."""

from __future__ import annotations

import pytest

from rosd_kit.components.tasks import Micro, MicroCorpus
from rosd_kit.components.verifiers import MicroVerifier
from rosd_kit.micro.domains import SUITES


@pytest.mark.parametrize("component", [Micro, MicroCorpus])
def test_another_seed_gives_other_problems(component):
    batches = [component().train_batch(step=3, count=5, seed=seed) for seed in (1, 2)]
    first, second = ([problem.messages for problem in batch] for batch in batches)
    assert first != second


@pytest.mark.parametrize("train", list(SUITES))
def test_the_trained_suite_comes_first_and_is_the_only_one_in_domain(train):
    task = Micro(Micro.Config(train=train))
    suites = task.suites(count=2, seed=0)
    assert next(iter(suites)) == train and set(suites) == set(SUITES)
    assert task.in_domain() == {train}
    assert all(len(problems) == 2 for problems in suites.values())
    assert all(p.suite == train for p in task.train_batch(step=0, count=2, seed=0))


def test_held_out_problems_do_not_depend_on_the_trained_domain():
    one, other = (Micro(Micro.Config(train=train)).suites(count=3, seed=7) for train in ("sums", "clock"))
    assert one == other


@pytest.mark.parametrize("suite", list(SUITES))
def test_reference_solutions_are_right_and_have_no_error(suite):
    task = Micro(Micro.Config(train=suite))
    for problem in task.train_batch(step=0, count=5, seed=0):
        assert problem.solution is not None
        assert MicroVerifier().verify(problem, problem.solution).success
        assert task.first_error(problem, problem.solution).status == "none"
        broken = problem.solution.replace("Step 1 : ", "Step 1 : 99 ", 1)
        assert task.first_error(problem, broken).step == 0


def test_lessons_have_a_solution_to_imitate_and_no_oracle():
    task = MicroCorpus()
    lessons = task.train_batch(step=0, count=20, seed=0)
    assert all(lesson.solution and lesson.messages for lesson in lessons)
    assert len({lesson.suite for lesson in lessons}) > 1
    assert task.first_error(lessons[0], "anything") is None and task.in_domain() == frozenset()
