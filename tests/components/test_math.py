"""Mathematical answers: equal and unequal expressions, and some that take forever."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from rosd_kit.components.verifiers import Math
from tests.components.rows import asking

pytest.importorskip("math_verify")


@pytest.fixture(scope="module")
def verifier() -> Iterator[Math]:
    verifier = Math(Math.Config(workers=1, deadline=60))
    yield verifier
    verifier._pool.close()


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ("1/2", r"So it is \boxed{0.5}."),
        (r"\frac{1}{2}", r"$\frac{2}{4}$"),
        ("72", "She sold 48 + 24 = 72.\n#### 72"),
        ("204", r"Thus $m+n=\boxed{204}$."),
        (r"\{1,2\}", r"\boxed{\{2, 1\}}"),
        ("x^2+1", r"\boxed{1 + x^2}"),
        (r"\sqrt{8}", r"<think>\boxed{3}</think> \boxed{2\sqrt{2}}"),
        ("1000", r"\boxed{1,000}"),
        ("5", "x" * 1_000_000 + r" \boxed{5}"),
    ],
)
def test_equal_expressions_are_right(verifier, answer, text):
    verdict = verifier.verify(asking(answer), text)
    assert (verdict.success, verdict.score, verdict.status) == (True, 1.0, "ok")


@pytest.mark.parametrize(
    ("answer", "text"),
    [("1/2", r"\boxed{0.25}"), ("72", r"\boxed{72} no, \boxed{27}"), ("3", r"<think>\boxed{3}</think> \boxed{4}")],
)
def test_unequal_expressions_are_wrong(verifier, answer, text):
    verdict = verifier.verify(asking(answer), text)
    assert (verdict.success, verdict.status) == (False, "ok") and verdict.feedback


@pytest.mark.parametrize("text", ["", "I do not know.", r"<think>\boxed{3}", r"\boxed{}"])
def test_a_response_without_an_expression_is_unparsable(verifier, text):
    assert verifier.verify(asking("3"), text).status == "unparsable"


def test_an_endless_comparison_gives_status_error_and_the_others_are_judged():
    endless = r"\boxed{9^{9^{9^{9^{9}}}} + 1}"
    verdicts = Math(Math.Config(workers=1, deadline=5)).verify_group(asking("3"), [r"\boxed{3}", endless, r"\boxed{4}"])
    assert [(v.status, v.success) for v in verdicts] == [("ok", True), ("error", False), ("ok", False)]


def test_a_reference_answer_that_is_not_an_expression_gives_status_error(verifier):
    assert verifier.verify(asking(""), r"\boxed{3}").status == "error"
