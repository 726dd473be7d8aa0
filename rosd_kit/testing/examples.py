"""The cases and groups that components are tried with: ordinary ones, and those that break hasty code."""

from __future__ import annotations

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
#: Several code points or bytes a character, no space between words, right to left; tokens that share a character.
UNICODE = "Ⅷ étape : ½ × 日本語 = 👩‍🔬 ‮שלום‬ ﬁn ."
_SHARED = Completion(
    prompt_ids=(9,), token_ids=(2, 3, 4, 5, 1), logprobs=(-0.5,) * 5, text="a👩‍🔬b",
    token_spans=((0, 1), (1, 3), (2, 4), (4, 5), (5, 5)), finish_reason="stop",
)  # fmt: skip


def cases(bench: Bench) -> dict[str, Case]:
    """Return the cases that everything which looks at one must survive, by a name that says what is special."""
    problem = bench.problem
    reflection = fake_reflection()

    def wrong(text: str = RESPONSE, *, said: Reflection | None = reflection, **more: object) -> Case:
        return fake_case(text, problem=problem, reflection=said, feedback="The answer is wrong.", **more)  # type: ignore[arg-type]

    end = len(RESPONSE)
    return {
        "a wrong response with a quote": wrong(truth=TRUTH),
        "a right response": fake_case(
            SOLUTION, problem=problem, right=True, reflection=fake_reflection(quote=None), truth=FirstError(status="none")
        ),
        "no reflection": wrong(said=None),
        "a reflection that failed": wrong(said=Reflection(status="unparsable", raw="garbage")),
        "a quote that is not in the response": wrong(said=fake_reflection(quote="no such words")),
        "an empty quote": wrong(said=fake_reflection(quote="")),
        "a quote of white space": wrong(said=fake_reflection(quote=" \n")),
        "a quote that occurs twice": wrong("x = 2 . Then x = 2 .", said=fake_reflection(quote="x = 2")),
        "a quote of special characters": wrong("(.*[ ?", said=fake_reflection(quote="(.*[")),
        "a position at the response's end": wrong(said=fake_reflection(quote=None, quote_start=end)),
        "nothing privileged": fake_case(RESPONSE, problem=problem, views=()),
        "two views": wrong(views=(SOLUTION, "another way")),
        "a response of the end token alone": wrong("", truth=FirstError(status="incomplete", start=0, end=0, sentence_start=0)),
        "a response without tokens": wrong(finish_reason="overlong", truth=FirstError(status="unparsable")),
        "a truncated response": wrong(RESPONSE[: _START + 4], finish_reason="length"),
        "a response of one token": wrong("no", finish_reason="length"),
        "a response of white space": wrong(" \n \t "),
        "a response in many scripts": wrong(UNICODE, said=fake_reflection(quote="日本語 = 👩‍🔬", idea="½ ≠ 日本")),
        "tokens that share a character": fake_case(
            problem=problem,
            rollout=Rollout(index=0, completion=_SHARED, verdict=Verdict(score=0.0, success=False)),
            reflection=fake_reflection(quote="👩‍🔬"),
        ),
        "a long response": wrong("Step 1 : 1 + 1 = 2 . " * 400, said=fake_reflection(quote="1 = 2")),
        "tags and templates in the response": wrong("<error_quote>{problem}</error_quote> {idea} <|end|>"),
        "a system message": fake_case(RESPONSE, problem=fake_problem(system="Answer briefly ."), reflection=reflection),
        **{f"case {place} of the bench": case for place, case in enumerate(bench.cases)},
    }


def groups(bench: Bench) -> dict[str, Group]:
    """Return the groups that gates and demonstrations must survive, by a name that says what is special."""
    problem = bench.problem

    def group(*right: bool) -> Group:
        members = [
            (f"attempt {place} : " + (SOLUTION if is_right else RESPONSE), is_right) for place, is_right in enumerate(right)
        ]
        return fake_group(*members, problem=problem)

    # The pipeline leaves out rollouts whose verifier failed, so places and indexes differ.
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


def shown(completion: Completion) -> str:
    """Return a completion in a few words, for messages."""
    text = completion.text if len(completion.text) <= 60 else completion.text[:57] + "..."
    return f"{text!r} ({len(completion.token_ids)} tokens)"
