"""The laws of tasks: the same arguments give the same problems, and those to measure on are not trained on."""

from __future__ import annotations

from rosd_kit.contracts import Task
from rosd_kit.testing.check import Bench, another, check, demand, does_not_apply
from rosd_kit.testing.difference import difference
from rosd_kit.testing.texts import adversarial_texts
from rosd_kit.types import FirstError, Problem

_COUNT = 6
_STATUSES = ("none", "error", "incomplete", "unparsable")


def _some(task: Task) -> list[Problem]:
    return [
        *task.train_batch(step=0, count=_COUNT, seed=1),
        *(p for suite in task.suites(count=3, seed=1).values() for p in suite),
    ]


@check("task")
def check_as_many_as_asked(task: Task, bench: Bench) -> None:
    """`train_batch` returns `count` problems, at every step; a suite holds at most `count`, and at least one."""
    for step, count in ((0, 1), (0, _COUNT), (7, _COUNT)):
        found = task.train_batch(step=step, count=count, seed=1)
        demand(len(found) == count, f"{len(found)} problems at step {step} where {count} were asked for")
    for name, problems in task.suites(count=3, seed=1).items():
        demand(0 < len(problems) <= 3, f"suite {name!r} holds {len(problems)} problems where at most 3 were asked for")


@check("task")
def check_problems_are_whole(task: Task, bench: Bench) -> None:
    """Every problem has messages with role and content, the last from the user, and an answer, all of them texts."""
    for problem in _some(task):
        demand(isinstance(problem, Problem) and problem.messages, f"{problem!r:.100} has no messages")
        for message in problem.messages:
            plain = isinstance(message.get("role"), str) and isinstance(message.get("content"), str)
            demand(plain, f"problem {problem.id!r}: the message {message!r:.100}")
        demand(
            problem.messages[-1]["role"] == "user",
            f"problem {problem.id!r} ends with a message of {problem.messages[-1]['role']!r}",
        )
        demand(isinstance(problem.answer, str), f"problem {problem.id!r}: the answer is {problem.answer!r}")


@check("task")
def check_ids_are_unique(task: Task, bench: Bench) -> None:
    """Within a step, and within a suite, no two problems have the same id: groups are told apart by it."""
    batches = {"step 0": task.train_batch(step=0, count=_COUNT, seed=1), **task.suites(count=_COUNT, seed=1)}
    for name, problems in batches.items():
        ids = [problem.id for problem in problems]
        twice = sorted({id for id in ids if ids.count(id) > 1})
        demand(not twice, f"{name}: id {twice[:3]} stands there more than once")


@check("task")
def check_steps_need_no_cursor(task: Task, bench: Bench) -> None:
    """A step's problems do not depend on which steps came before: a resumed run begins anywhere, with a new task."""
    fresh = another(task).train_batch(step=5, count=4, seed=3)
    walked = another(task)
    for step in range(5):
        walked.train_batch(step=step, count=4, seed=3)
    found = difference(fresh, walked.train_batch(step=5, count=4, seed=3))
    demand(not found, f"step 5 after steps 0 to 4 differs from step 5 alone: {found}")


@check("task")
def check_steps_and_seeds_differ(task: Task, bench: Bench) -> None:
    """Another step has other problems, as long as there are some; weakened by `may_repeat = True`."""
    if task.may_repeat:
        raise does_not_apply("it claims may_repeat")
    first, second = (_contents(task.train_batch(step=step, count=_COUNT, seed=1)) for step in (0, 1))
    demand(set(first) != set(second), "steps 0 and 1 have the same problems")


@check("task")
def check_held_out(task: Task, bench: Bench) -> None:
    """No problem that is measured on is among those that are trained on, as far as ten steps show."""
    measured = {content for problems in task.suites(count=20, seed=1).values() for content in _contents(problems)}
    for step in range(10):
        for problem, content in zip(batch := task.train_batch(step=step, count=_COUNT, seed=1), _contents(batch), strict=True):
            demand(content not in measured or task.may_repeat, f"problem {problem.id!r} of step {step} is also measured on")


@check("task")
def check_in_domain_names_suites(task: Task, bench: Bench) -> None:
    """`in_domain` names suites that there are."""
    strangers = task.in_domain() - task.suites(count=2, seed=1).keys()
    demand(not strangers, f"in_domain names {sorted(strangers)}, which is no suite")


@check("task")
def check_keeps_its_promises(task: Task, bench: Bench) -> None:
    """With the capability `solution` every problem to train on has one; with `oracle`, `first_error` answers any text."""
    offered = type(task).offers(task.config)
    if not offered & {"solution", "oracle"}:
        raise does_not_apply("it offers neither 'solution' nor 'oracle'")
    for problem in task.train_batch(step=0, count=_COUNT, seed=1):
        demand("solution" not in offered or problem.solution, f"problem {problem.id!r} has no solution")
        for name, text in adversarial_texts(problem).items() if "oracle" in offered else ():
            found = task.first_error(problem, text)
            demand(isinstance(found, FirstError) and found.status in _STATUSES, f"first_error of {name}: {found!r:.100}")
            demand(found is None or found.start <= found.end <= len(text), f"first_error of {name}: {found!r:.100}")


def _contents(problems: list[Problem]) -> list[str]:
    return [problem.messages[-1]["content"] for problem in problems]
