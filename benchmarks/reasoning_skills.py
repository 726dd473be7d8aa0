"""Measures the skills of `micro-reasoning`: `python benchmarks/reasoning_skills.py [MODEL] [COUNT]` prints them as a table.

Each skill is tested with the prompts of the profile `micro-reasoning` and judged by the oracle.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from rosd_kit.components.reflectors.tutor import read_reflection
from rosd_kit.components.rollouts.transformers import TransformersEngine
from rosd_kit.components.tasks.micro_reasoning_corpus import MicroReasoningCorpus
from rosd_kit.micro.reasoning.guide import steps_of
from rosd_kit.micro.reasoning.lessons import JourneyLesson, draw_demonstration, draw_wrong
from rosd_kit.micro.reasoning.oracle import first_error
from rosd_kit.micro.reasoning.solver import HABITS
from rosd_kit.micro.reasoning.text import Check, Correction, find_answer, read, write
from rosd_kit.micro.reasoning.worlds import SUITES, Journey, draw_journey
from rosd_kit.model.student import Student
from rosd_kit.seeds import stable_seed
from rosd_kit.settings import ModelSettings
from rosd_kit.types import Completion, GenerateRequest, Sampling


@dataclass(frozen=True, kw_only=True)
class Skills:
    """Shares in [0, 1] of one suite's problems. Reflections are greedy, solutions at temperature 1."""

    suite: str
    solves: float
    readable: float
    """Solutions whose every sentence belongs to the language."""
    slow: float
    """Moves that are made track by track."""
    habit: float
    """The same share in the lessons."""
    mended: float
    """Solutions with at least one correction."""
    with_idea: float
    """Right answers with the true idea for a wrong rollout in the prompt."""
    with_solution: float
    follows: float
    """Moves made in the way and place that the shown solution makes them."""
    follows_own: float
    """The same where the prompt asks for the model's own manner."""
    format: float
    quotes: float
    """Reflections that quote the true first error."""
    ideas: float
    """Reflections whose idea begins with the right claim."""


class _Prompter:
    """Prompts a model with lessons."""

    def __init__(self, path: str) -> None:
        self.student = Student.load(ModelSettings(path=path), keep_initial=False)
        self.engine = TransformersEngine()
        self.engine.start(self.student)
        self.corpus = MicroReasoningCorpus()

    def generate(self, lessons: Sequence[JourneyLesson], temperature: float) -> list[Completion]:
        """Return one completion per lesson."""
        sampling = Sampling(temperature=temperature, max_new_tokens=224)
        requests = []
        for i, lesson in enumerate(lessons):
            ids = self.student.prompt_ids(self.corpus.problem(lesson, str(i)).messages)
            requests.append(GenerateRequest(prompt_ids=ids, sampling=sampling, seed=stable_seed("skills", lesson.kind, i)))
        return self.engine.generate(requests)


def measure(path: str = "micro-reasoning", *, count: int = 200) -> list[Skills]:
    """Return the skills of a model on `count` problems per suite."""
    prompter = _Prompter(path)
    return [_measure(prompter, suite, count) for suite in SUITES]


def _measure(prompter: _Prompter, suite: str, count: int) -> Skills:
    rng = random.Random(f"reasoning skills {suite}")
    journeys = [draw_journey(rng, *SUITES[suite]) for _ in range(count)]
    wrong = [draw_wrong(journey, rng) for journey in journeys]
    shown = [draw_demonstration(journey, rng) for journey in journeys]
    truths = [first_error(journey, text) for journey, text in zip(journeys, wrong, strict=True)]

    def ask(kind: str, temperature: float = 1.0, like: bool = False) -> list[Completion]:
        lessons = [
            JourneyLesson(
                kind=kind,
                suite=suite,
                journey=journey,
                like=like,
                target="",
                response=text if kind == "reflect_wrong" else "",
                demonstration=write(demonstration) if kind in ("reflect_wrong", "solution") else "",
                idea=truth.idea,
            )
            for journey, text, demonstration, truth in zip(journeys, wrong, shown, truths, strict=True)
        ]
        return prompter.generate(lessons, temperature)

    solutions = ask("solve")
    sentences = [[one.statement for one in read(completion.text)] for completion in solutions]
    moves = [step.slow for one in sentences for step in steps_of([s for s in one if s is not None])]
    reflections = [read_reflection(text, right=False) for text in ask("reflect_wrong", 0.0)]
    like, own = ask("solution", like=True), ask("solution")
    return Skills(
        suite=suite,
        solves=_accuracy(solutions, journeys),
        readable=_share(all(s is not None for s in one) for one in sentences),
        slow=_share(moves),
        habit=HABITS[SUITES[suite][0]].slow,
        mended=_share(any(isinstance(s, Correction) for s in one) for one in sentences),
        with_idea=_accuracy(ask("idea"), journeys),
        with_solution=_accuracy(like, journeys),
        follows=_following(like, shown),
        follows_own=_following(own, shown),
        format=_share(r.status == "ok" for r in reflections),
        quotes=_share(r.quote == t[x.start : x.end] for r, t, x in zip(reflections, wrong, truths, strict=True)),
        ideas=_share((r.idea or "").startswith(x.replacement) for r, x in zip(reflections, truths, strict=True)),
    )


def _share(values) -> float:
    values = list(values)
    return sum(values) / max(1, len(values))


def _accuracy(completions: Sequence[Completion], journeys: Sequence[Journey]) -> float:
    pairs = zip(completions, journeys, strict=True)
    return _share(find_answer(completion.text) == journey.answer() for completion, journey in pairs)


def _following(completions: Sequence[Completion], shown: Sequence[list]) -> float:
    """Return the share of moves that have the person, path and way of the shown solution's move in this place."""
    same = []
    for completion, statements in zip(completions, shown, strict=True):
        written = [one.statement for one in read(completion.text)]
        written = [one for one in written if one is not None and not isinstance(one, Check)]
        pairs = zip(steps_of(written), steps_of(statements), strict=False)
        same += [(a.who, a.path, a.slow) == (b.who, b.path, b.slow) for a, b in pairs]
    return _share(same)


COLUMNS = {
    "solves": "solves",
    "readable": "in the language",
    "slow": "slow moves",
    "habit": "in the lessons",
    "mended": "mends a move",
    "with_idea": "solves with the idea",
    "with_solution": "with a solution",
    "follows": 'moves as shown, "like this"',
    "follows_own": '"correctly"',
    "format": "reflects in the format",
    "quotes": "quotes the first error",
    "ideas": "begins the idea rightly",
}


def table(skills: Sequence[Skills]) -> str:
    """Return the skills as a Markdown table, in percent, one skill a row."""
    lines = [f"| % | {' | '.join(s.suite for s in skills)} |", "|---" * (len(skills) + 1) + "|"]
    for name, title in COLUMNS.items():
        lines.append(f"| {title} | {' | '.join(f'{100 * getattr(s, name):.0f}' for s in skills)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table(measure(*sys.argv[1:2], **({"count": int(sys.argv[2])} if len(sys.argv) > 2 else {}))))
