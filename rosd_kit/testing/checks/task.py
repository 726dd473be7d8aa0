"""The laws of tasks: problems depend only on the arguments, and evaluation problems are never trained on."""

from __future__ import annotations

from math import isfinite

from rosd_kit.contracts import Task
from rosd_kit.testing.check import Bench, check, does_not_apply, rebuilt, require
from rosd_kit.testing.difference import difference
from rosd_kit.testing.texts import adversarial_texts
from rosd_kit.types import FirstError, Problem

_COUNT = 6
_STATUSES = ("none", "error", "incomplete", "unparsable")


def _some_problems(task: Task) -> list[Problem]:
    """Return problems of one step and of every suite."""
    return [
        *task.train_batch(step=0, count=_COUNT, seed=1),
        *(p for suite in task.suites(count=3, seed=1).values() for p in suite),
    ]


@check("task")
def check_returns_the_requested_count(task: Task, bench: Bench) -> None:
    """`train_batch` returns `count` problems at every step; a suite has at least 1 and at most `count`."""
    for step, count in ((0, 1), (0, _COUNT), (7, _COUNT)):
        problems = task.train_batch(step=step, count=count, seed=1)
        require(len(problems) == count, f"{len(problems)} problems at step {step} for count={count}")
    for name, suite in task.suites(count=3, seed=1).items():
        require(0 < len(suite) <= 3, f"suite {name!r} has {len(suite)} problems for count=3")


@check("task")
def check_problems_are_complete(task: Task, bench: Bench) -> None:
    """Every problem has an answer and messages with role and content, all strings; the last message is the user's."""
    for problem in _some_problems(task):
        require(isinstance(problem, Problem) and problem.messages, f"{problem!r:.100} has no messages")
        for message in problem.messages:
            complete = isinstance(message.get("role"), str) and isinstance(message.get("content"), str)
            require(complete, f"problem {problem.id!r}: role or content of {message!r:.100} is not a string")
        require(
            problem.messages[-1]["role"] == "user",
            f"problem {problem.id!r} ends with a message of role {problem.messages[-1]['role']!r}",
        )
        require(isinstance(problem.answer, str), f"problem {problem.id!r}: the answer is {problem.answer!r}")


@check("task")
def check_ids_are_unique(task: Task, bench: Bench) -> None:
    """No two problems of a step or of a suite have the same id: it identifies their groups."""
    batches = {"step 0": task.train_batch(step=0, count=_COUNT, seed=1), **task.suites(count=_COUNT, seed=1)}
    for name, problems in batches.items():
        ids = [problem.id for problem in problems]
        repeated = sorted({id for id in ids if ids.count(id) > 1})
        require(not repeated, f"{name}: these ids occur more than once: {repeated[:3]}")


@check("task")
def check_steps_are_independent(task: Task, bench: Bench) -> None:
    """A step's problems do not depend on the steps before it: a resumed run starts at any step, with a new task."""
    alone = rebuilt(task).train_batch(step=5, count=4, seed=3)
    in_order = rebuilt(task)
    for step in range(5):
        in_order.train_batch(step=step, count=4, seed=3)
    text = difference(alone, in_order.train_batch(step=5, count=4, seed=3))
    require(not text, f"step 5 after steps 0 to 4 differs from step 5 alone: {text}")


@check("task")
def check_steps_and_seeds_differ(task: Task, bench: Bench) -> None:
    """Steps differ in their problems, seeds at least in the order of problems; waived by `may_repeat = True`."""
    if task.may_repeat:
        raise does_not_apply("its class sets may_repeat = True")
    first, second, other = (
        _contents(task.train_batch(step=step, count=_COUNT, seed=seed)) for step, seed in ((0, 1), (1, 1), (0, 2))
    )
    require(set(first) != set(second), "steps 0 and 1 have the same problems")
    require(list(first) != list(other), "seeds 1 and 2 have the same problems in the same order")


@check("task")
def check_held_out(task: Task, bench: Bench) -> None:
    """No problem of the first ten training steps is in a suite; waived by `may_repeat = True`."""
    evaluated = {content for problems in task.suites(count=20, seed=1).values() for content in _contents(problems)}
    for step in range(10):
        for problem, content in zip(batch := task.train_batch(step=step, count=_COUNT, seed=1), _contents(batch), strict=True):
            require(content not in evaluated or task.may_repeat, f"problem {problem.id!r} of step {step} is also in a suite")


@check("task")
def check_in_domain_names_suites(task: Task, bench: Bench) -> None:
    """Every name in `in_domain` is the name of a suite."""
    unknown = task.in_domain() - task.suites(count=2, seed=1).keys()
    require(not unknown, f"in_domain names {sorted(unknown)}, but there is no such suite")


@check("task")
def check_capabilities_hold(task: Task, bench: Bench) -> None:
    """With the capability `solution` every training problem has a solution; with `oracle`, `first_error` handles any text."""
    offered = type(task).offers(task.config)
    if not offered & {"solution", "oracle"}:
        raise does_not_apply("it offers neither 'solution' nor 'oracle'")
    for problem in task.train_batch(step=0, count=_COUNT, seed=1):
        require("solution" not in offered or problem.solution, f"problem {problem.id!r} has no solution")
        for name, text in adversarial_texts(problem).items() if "oracle" in offered else ():
            error = task.first_error(problem, text)
            require(isinstance(error, FirstError) and error.status in _STATUSES, f"first_error of {name}: {error!r:.100}")
            require(error is None or error.start <= error.end <= len(text), f"first_error of {name}: {error!r:.100}")


@check("task")
def check_traits_are_finite(task: Task, bench: Bench) -> None:
    """`traits` handles any text: it maps names to finite numbers, the same for the same response."""
    if type(task).traits is Task.traits:
        raise does_not_apply("it measures no traits")
    problem = task.train_batch(step=0, count=1, seed=1)[0]
    for name, text in {**adversarial_texts(problem), "solution": problem.solution or ""}.items():
        traits = task.traits(problem, text)
        usable = all(isinstance(key, str) and isfinite(value) for key, value in traits.items())
        require(usable and traits == task.traits(problem, text), f"traits of {name}: {traits!r:.100}")


def _contents(problems: list[Problem]) -> list[str]:
    """Return the text of each problem's last message."""
    return [problem.messages[-1]["content"] for problem in problems]
