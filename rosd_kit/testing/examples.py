"""The cases and groups that components are tried with: ordinary ones, and edge cases that break careless code."""

from __future__ import annotations

from typing import Any

from rosd_kit.testing.builders import (
    QUOTE,
    RESPONSE,
    SOLUTION,
    fake_case,
    fake_group,
    fake_problem,
    fake_reflection,
    fake_rollout,
)
from rosd_kit.testing.check import Bench
from rosd_kit.types import Case, Completion, FirstError, Group, Reflection, Rollout, Verdict

_START = RESPONSE.index(QUOTE)
TRUTH = FirstError(
    status="error", step=1, start=_START, end=_START + len(QUOTE), sentence_start=RESPONSE.index("Step 2"),
    replacement="25 + 4 = 29", idea="25 + 4 is 29",
)  # fmt: skip
#: Characters of several bytes or code points, words without spaces, right-to-left text.
UNICODE = "Ⅷ étape : ½ × 日本語 = 👩‍🔬 ‮שלום‬ ﬁn ."
#: Tokens that share a character.
_SHARED = Completion(
    prompt_ids=(9,), token_ids=(2, 3, 4, 5, 1), logprobs=(-0.5,) * 5, text="a👩‍🔬b",
    token_spans=((0, 1), (1, 3), (2, 4), (4, 5), (5, 5)), finish_reason="stop",
)  # fmt: skip


def cases(bench: Bench) -> dict[str, Case]:
    """Return the cases that reflectors, localizers and contexts must handle, keyed by what is special about each."""
    problem = bench.problem
    quoting = fake_reflection()

    def wrong(text: str = RESPONSE, *, reflection: Reflection | None = quoting, **more: Any) -> Case:
        return fake_case(text, problem=problem, reflection=reflection, feedback="The answer is wrong.", **more)

    end = len(RESPONSE)
    return {
        "a wrong response with a quote": wrong(truth=TRUTH),
        "a right response": fake_case(
            SOLUTION, problem=problem, right=True, reflection=fake_reflection(quote=None), truth=FirstError(status="none")
        ),
        "no reflection": wrong(reflection=None),
        "a reflection that failed": wrong(reflection=Reflection(status="unparsable", raw="garbage")),
        "a quote that is not in the response": wrong(reflection=fake_reflection(quote="no such words")),
        "an empty quote": wrong(reflection=fake_reflection(quote="")),
        "a quote of white space": wrong(reflection=fake_reflection(quote=" \n")),
        "a quote that occurs twice": wrong("x = 2 . Then x = 2 .", reflection=fake_reflection(quote="x = 2")),
        "a quote of special characters": wrong("(.*[ ?", reflection=fake_reflection(quote="(.*[")),
        "a position at the response's end": wrong(reflection=fake_reflection(quote=None, quote_start=end)),
        "nothing privileged": fake_case(RESPONSE, problem=problem, views=()),
        "two views": wrong(views=(SOLUTION, "another way")),
        "a response of the end token alone": wrong("", truth=FirstError(status="incomplete", start=0, end=0, sentence_start=0)),
        "a response without tokens": wrong(finish_reason="overlong", truth=FirstError(status="unparsable")),
        "a truncated response": wrong(RESPONSE[: _START + 4], finish_reason="length"),
        "a response of one token": wrong("no", finish_reason="length"),
        "a response of white space": wrong(" \n \t "),
        "a response in many scripts": wrong(UNICODE, reflection=fake_reflection(quote="日本語 = 👩‍🔬", idea="½ ≠ 日本")),
        "tokens that share a character": fake_case(
            problem=problem,
            rollout=Rollout(index=0, completion=_SHARED, verdict=Verdict(score=0.0, success=False)),
            reflection=fake_reflection(quote="👩‍🔬"),
        ),
        "a long response": wrong("Step 1 : 1 + 1 = 2 . " * 400, reflection=fake_reflection(quote="1 = 2")),
        "tags and templates in the response": wrong("<error_quote>{problem}</error_quote> {idea} <|end|>"),
        "a system message": fake_case(RESPONSE, problem=fake_problem(system="Answer briefly ."), reflection=quoting),
        **{f"case {index} of the bench": case for index, case in enumerate(bench.cases)},
    }


def groups(bench: Bench) -> dict[str, Group]:
    """Return the groups that gates and demonstrations must handle, keyed by what is special about each."""
    problem = bench.problem

    def group(*right: bool) -> Group:
        members = [
            (f"attempt {index} : " + (SOLUTION if is_right else RESPONSE), is_right) for index, is_right in enumerate(right)
        ]
        return fake_group(*members, problem=problem)

    # The pipeline drops rollouts whose verifier failed, so a rollout's index may differ from its position.
    gap = tuple(rollout for rollout in group(False, False, True, True).rollouts if rollout.index != 1)
    return {
        "a mixed group": group(False, True, False, True),
        "all right": group(True, True, True),
        "all wrong": group(False, False, False),
        "one right rollout": group(True),
        "one wrong rollout": group(False),
        "a group with a gap": Group(problem=problem, rollouts=gap),
        "empty and overlong rollouts": fake_group(
            fake_rollout("", index=0),
            fake_rollout(finish_reason="overlong", index=1),
            fake_rollout("attempt 2 : 29", right=True, index=2),
            problem=problem,
        ),
        "scores between 0 and 1": fake_group(
            fake_rollout(index=0, score=0.4), fake_rollout("attempt 1 : 29", right=True, index=1, score=0.9), problem=problem
        ),
        "no reference solution": fake_group(("one", False), ("two", True), problem=fake_problem(id="q", solution=None)),
    }  # fmt: skip


def summarize(completion: Completion) -> str:
    """Return a short description of a completion for messages."""
    text = completion.text if len(completion.text) <= 60 else completion.text[:57] + "..."
    return f"{text!r} ({len(completion.token_ids)} tokens)"
