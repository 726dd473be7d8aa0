"""Measures the skills of the embedded model: `python benchmarks/micro_skills.py [MODEL]` prints the table of the model card.

Each skill is tested with the prompts of the profile `micro` and judged by the oracle.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rosd_kit.components.reflectors.tutor import read_reflection
from rosd_kit.components.rollouts.transformers import TransformersEngine
from rosd_kit.components.tasks.lesson_prompts import LessonPrompts
from rosd_kit.components.tasks.micro import as_problem
from rosd_kit.micro.beliefs import sampled_belief
from rosd_kit.micro.corpus import Lesson, draw_instance
from rosd_kit.micro.domains import SUITES
from rosd_kit.micro.domains.base import Domain, Instance, find_answer, first_error, write_solution
from rosd_kit.model.student import Student
from rosd_kit.seeds import stable_seed
from rosd_kit.settings import ModelSettings
from rosd_kit.types import Completion, FirstError, GenerateRequest, Sampling


@dataclass(frozen=True, kw_only=True)
class Skills:
    """Shares in [0, 1] of one suite's problems. Decoding is greedy except for `solves` and `guided`."""

    suite: str
    solves: float
    """Correct answers at temperature 1."""
    format: float
    """Reflections on wrong solutions that contain both tags."""
    quotes: float
    """Reflections that quote the true first error."""
    guided: float
    """Correct answers at temperature 1 with the correct idea in the prompt."""


class _Prompter:
    """Prompts a model with lessons."""

    def __init__(self, path: str) -> None:
        self.student = Student.load(ModelSettings(path=path), keep_initial=False)
        self.engine = TransformersEngine()
        self.engine.start(self.student)
        self.prompts = LessonPrompts()

    def generate(self, lessons: Sequence[Lesson], temperature: float) -> list[Completion]:
        """Return one completion per lesson."""
        sampling = Sampling(temperature=temperature, max_new_tokens=110)
        requests = []
        for i, lesson in enumerate(lessons):
            problem = as_problem(lesson.domain, lesson.instance, suite=lesson.kind, id=str(i))
            ids = self.student.prompt_ids(self.prompts.messages(lesson, problem))
            requests.append(GenerateRequest(prompt_ids=ids, sampling=sampling, seed=stable_seed("skills", lesson.kind, i)))
        return self.engine.generate(requests)


def measure(path: str = "micro", *, count: int = 200, suites: Iterable[str] = SUITES) -> list[Skills]:
    """Return the skills of a model on `count` problems per suite."""
    prompter = _Prompter(path)
    return [_measure(prompter, suite, count) for suite in suites]


def _measure(prompter: _Prompter, suite: str, count: int) -> Skills:
    rng = random.Random(f"skills {suite}")
    problems = [draw_instance(rng, *SUITES[suite]) for _ in range(count)]
    solutions = prompter.generate([_lesson("solve", domain, instance) for domain, instance in problems], 1.0)
    wrong = [_draw_wrong_solution(rng, suite) for _ in range(count)]
    texts = prompter.generate([_lesson("reflect_wrong", d, i, response=text) for d, i, text, _ in wrong], 0.0)
    reflections = [read_reflection(text, right=False) for text in texts]
    guided = prompter.generate([_lesson("idea", d, i, idea=truth.idea) for d, i, _, truth in wrong], 1.0)
    return Skills(
        suite=suite,
        solves=_accuracy(solutions, problems),
        format=sum(r.status == "ok" for r in reflections) / count,
        quotes=sum(r.quote == t[x.start : x.end] for r, (_, _, t, x) in zip(reflections, wrong, strict=True)) / count,
        guided=_accuracy(guided, [(d, i) for d, i, _, _ in wrong]),
    )


def _draw_wrong_solution(rng: random.Random, suite: str) -> tuple[Domain, Instance, str, FirstError]:
    """Return a problem, a wrong solution that follows from the model's false beliefs, and its first error."""
    while True:
        domain, instance = draw_instance(rng, *SUITES[suite])
        claims, answer = domain.claims(instance, sampled_belief(rng))
        if answer != domain.solve(instance)[1]:
            text = write_solution(claims, answer)
            return domain, instance, text, first_error(domain, instance, text)


def _lesson(kind: str, domain: Domain, instance: Instance, *, response: str = "", idea: str = "") -> Lesson:
    claims, answer = domain.solve(instance)
    demonstration = write_solution(claims, answer) if kind == "reflect_wrong" else ""
    return Lesson(
        kind=kind,
        domain=domain,
        instance=instance,
        answer=answer,
        target="",
        response=response,
        demonstration=demonstration,
        idea=idea,
    )


def _accuracy(completions: Sequence[Completion], problems: Sequence[tuple[Domain, Instance]]) -> float:
    pairs = zip(completions, problems, strict=True)
    return sum(find_answer(completion.text) == d.solve(i)[1] for completion, (d, i) in pairs) / len(problems)


def table(skills: Sequence[Skills]) -> str:
    """Return the skills as a Markdown table, in percent."""
    lines = [
        "| suite | solves, T=1 | keeps the format | quotes the first error | solves with the idea, T=1 |",
        "|---|---|---|---|---|",
    ]
    for s in skills:
        shares = " | ".join(f"{100 * share:.0f}" for share in (s.solves, s.format, s.quotes, s.guided))
        lines.append(f"| {s.suite} | {shares} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table(measure(*sys.argv[1:2])))
