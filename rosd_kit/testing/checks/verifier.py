"""The laws of verifiers: a verdict on every text."""

from __future__ import annotations

from rosd_kit.contracts import Verifier
from rosd_kit.testing.check import Bench, check, demand, does_not_apply
from rosd_kit.testing.texts import adversarial_texts
from rosd_kit.types import Verdict

_STATUSES = ("ok", "unparsable", "error")


def _judge(name: str, verdict: Verdict) -> None:
    demand(isinstance(verdict, Verdict), f"{name}: {verdict!r} is no Verdict")
    demand(isinstance(verdict.score, float | int) and 0 <= verdict.score <= 1, f"{name}: the score is {verdict.score!r}")
    demand(isinstance(verdict.success, bool), f"{name}: success is {verdict.success!r}")
    demand(verdict.status in _STATUSES, f"{name}: the status is {verdict.status!r}; allowed: {', '.join(_STATUSES)}")
    demand(verdict.status == "ok" or not verdict.success, f"{name}: a success with the status {verdict.status!r}")
    demand(isinstance(verdict.feedback, str), f"{name}: the feedback is {verdict.feedback!r}")


@check("verifier")
def check_judges_every_text(verifier: Verifier, bench: Bench) -> None:
    """`verify` returns a verdict on any text and never raises: garbage is `unparsable`, its own failure is `error`.

    The score is from 0 to 1, and only a verdict `ok` can be a success.
    """
    for name, text in adversarial_texts(bench.problem).items():
        try:
            verdict = verifier.verify(bench.problem, text)
        except Exception as error:
            error.add_note(f"the text: {name}, {text[:60]!r}")
            raise
        _judge(name, verdict)


@check("verifier")
def check_nothing_is_not_right(verifier: Verifier, bench: Bench) -> None:
    """An empty response is no success, and neither is white space."""
    for text in ("", " \n\t "):
        demand(not verifier.verify(bench.problem, text).success, f"{text!r} is a success")


@check("verifier")
def check_one_verdict_a_text(verifier: Verifier, bench: Bench) -> None:
    """`verify_group` returns one verdict for each text, in order: turned round, the texts have the same verdicts."""
    texts = [*list(adversarial_texts(bench.problem).values())[:8], f"Answer : {bench.problem.answer}", "Answer : 7"]
    verdicts, reversed_ = (verifier.verify_group(bench.problem, order) for order in (texts, texts[::-1]))
    demand(len(verdicts) == len(texts), f"{len(verdicts)} verdicts for {len(texts)} texts")
    for text, verdict, other in zip(texts, verdicts, reversed_[::-1], strict=True):
        _judge(repr(text[:60]), verdict)
        demand(verdict == other, f"{text[:60]!r}: {verdict} in one order, {other} in the other")
    alone = verifier.verify_group(bench.problem, texts[-1:])
    demand(len(alone) == 1, f"{len(alone)} verdicts for one text")


@check("verifier")
def check_feedback_is_given(verifier: Verifier, bench: Bench) -> None:
    """A verifier that provides `feedback` has something to say of at least one wrong response."""
    if "feedback" not in verifier.provides:
        raise does_not_apply("it does not provide 'feedback'")
    wrong = [verifier.verify(bench.problem, text) for text in ("", "Answer : 7 .", "<answer>7</answer>", "\\boxed{7}")]
    demand(any(v.feedback for v in wrong if not v.success), "every wrong response has an empty feedback")
