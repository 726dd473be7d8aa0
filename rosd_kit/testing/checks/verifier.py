"""The laws of verifiers: a valid verdict on any text."""

from __future__ import annotations

from dataclasses import replace

from rosd_kit.contracts import Verifier
from rosd_kit.sandbox import isolation
from rosd_kit.testing.check import Bench, check, does_not_apply, must_not_raise, require
from rosd_kit.testing.texts import adversarial_texts
from rosd_kit.types import Verdict

_STATUSES = ("ok", "unparsable", "error")


def _require_valid(name: str, verdict: Verdict) -> None:
    require(isinstance(verdict, Verdict), f"{name}: {verdict!r} is not a Verdict")
    require(isinstance(verdict.score, float | int) and 0 <= verdict.score <= 1, f"{name}: the score is {verdict.score!r}")
    require(isinstance(verdict.success, bool), f"{name}: success is {verdict.success!r}")
    require(verdict.status in _STATUSES, f"{name}: the status is {verdict.status!r}; allowed: {', '.join(_STATUSES)}")
    require(verdict.status == "ok" or not verdict.success, f"{name}: it is a success with the status {verdict.status!r}")
    require(isinstance(verdict.feedback, str), f"{name}: the feedback is {verdict.feedback!r}")


@check("verifier")
def check_accepts_any_text(verifier: Verifier, bench: Bench) -> None:
    """`verify` returns a verdict on any text and never raises: garbage is `unparsable`, a failure of the verifier is `error`.

    The score is from 0 to 1, and only a verdict with the status `ok` can be a success.
    """
    for name, text in adversarial_texts(bench.problem).items():
        with must_not_raise(f"{name}, the text {text[:60]!r}"):
            verdict = verifier.verify(bench.problem, text)
        _require_valid(name, verdict)


@check("verifier")
def check_empty_response_is_wrong(verifier: Verifier, bench: Bench) -> None:
    """An empty response and white space are never a success."""
    for text in ("", " \n\t "):
        require(not verifier.verify(bench.problem, text).success, f"{text!r} is a success")


@check("verifier")
def check_one_verdict_per_text(verifier: Verifier, bench: Bench) -> None:
    """`verify_group` returns one verdict per text, in order; the order of the texts does not change the verdicts."""
    texts = [f"Answer : {bench.problem.answer}", *list(adversarial_texts(bench.problem).values())[:8], "Answer : 7"]
    verdicts = verifier.verify_group(bench.problem, texts)
    require(len(verdicts) == len(texts), f"{len(verdicts)} verdicts for {len(texts)} texts")
    # Verdicts that are mixed up, however, cannot follow both of these changes: together they make every order.
    for order in ([1, 0, *range(2, len(texts))], [*range(1, len(texts)), 0]):
        again = verifier.verify_group(bench.problem, [texts[index] for index in order])
        require(len(again) == len(texts), f"{len(again)} verdicts for {len(texts)} texts")
        for index, other in zip(order, again, strict=True):
            text, verdict = texts[index], verdicts[index]
            _require_valid(repr(text[:60]), verdict)
            require(verdict == other, f"{text[:60]!r}: {verdict} in one order, {other} in another")
    alone = verifier.verify_group(bench.problem, texts[-1:])
    require(len(alone) == 1, f"{len(alone)} verdicts for one text")


@check("verifier")
def check_gives_feedback(verifier: Verifier, bench: Bench) -> None:
    """With the capability `feedback`, at least one wrong response gets feedback."""
    if "feedback" not in verifier.provides:
        raise does_not_apply("it does not provide 'feedback'")
    wrong = [verifier.verify(bench.problem, text) for text in ("", "Answer : 7 .", "<answer>7</answer>", "\\boxed{7}")]
    require(any(v.feedback for v in wrong if not v.success), "every wrong response has an empty feedback")


@check("verifier")
def check_judges_right_answers(verifier: Verifier, bench: Bench) -> None:
    """`check_gold` takes any right answer without raising; it returns None or a reason, and then no response is a success."""
    for name, answer in adversarial_texts(bench.problem).items():
        problem = replace(bench.problem, answer=answer)
        with must_not_raise(f"{name} as the right answer, {answer[:60]!r}"):
            reason = verifier.check_gold(problem)
        require(reason is None or (isinstance(reason, str) and reason), f"{name}: check_gold returned {reason!r:.100}")
        for text in (f"Answer : {answer}", f"<answer>{answer}</answer>") if reason else ():
            require(
                not verifier.verify(problem, text).success,
                f"{name}: check_gold says that no response can be right ({reason:.100}), and {text[:60]!r} is",
            )


@check("verifier")
def check_sandbox_gives_the_same_verdicts(verifier: Verifier, bench: Bench) -> None:
    """With `sandboxed`, the sandbox gives the same verdicts as this process would.

    There, a verifier can import its class, but it can neither write files, nor use the network, nor start processes, nor read
    files other than Python's packages, unless it has read them before, in `__init__` or `prepare`.
    """
    if not verifier.sandboxed:
        raise does_not_apply("its class does not set sandboxed = True")
    answer = bench.problem.answer
    texts = [f"Answer : {answer}", f"<answer>{answer}</answer>", f"\\boxed{{{answer}}}", "<answer>7</answer>", "no answer"]
    confined = verifier.verify_group(bench.problem, texts)
    with isolation.inside():
        direct = verifier.verify_group(bench.problem, texts)
    for text, there, here in zip(texts, confined, direct, strict=True):
        require(there == here, f"{text!r}: {there} in the sandbox, {here} outside of it")
