"""Compares mathematical answers with math-verify, and guards what it takes too easily. Runs in a worker process.

math-verify compares numbers by rounding, which makes all tiny numbers equal, and does not see times of day, sequences with
an ellipsis, or units. Numbers are compared here with fifty digits; sets, tuples and intervals element by element.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from rosd_kit.text import mathematics
from rosd_kit.text.boxes import find_boxes, joined_boxes
from rosd_kit.types import JsonObject

#: Digits with which exact numbers are compared, and the relative difference up to which they are equal.
_DIGITS, _EXACT = 50, 1e-30
#: Numbers with a decimal point are equal if six decimals are, and the relative difference is at most this.
_ROUNDED = 5e-5
#: Longest sets whose elements are matched in any order.
_MAX_SET = 50

Expression = Any  # sympy's classes are untyped


def compare(job: JsonObject) -> JsonObject:
    """Parse an answer and compare it with the expected one.

    `job` holds `expected` and `answers`: several readings of the response, each a list of parts, of which any may be right.
    Raises `ValueError` if the expected answer is no expression.
    """
    logging.disable(logging.CRITICAL)  # math-verify warns that it runs without a timeout
    golds = [Answer(text) for text in _gold_readings(job["expected"])]
    if not any(gold.parsed for gold in golds):
        raise ValueError(f"the data set's answer {job['expected'][:80]!r} is not a mathematical expression")
    answers = [Answer(reading["text"], prose=reading["prose"]) for reading in job["answers"]]
    decimals = [mathematics.decimal_comma(answer.text) for answer in answers if any("." in gold.text for gold in golds)]
    answers += [Answer(decimal) for decimal in decimals if decimal is not None]
    parsed = [answer for answer in answers if answer.parsed]
    right = any(gold.parsed and gold.equals(answer) for answer in parsed for gold in golds)
    return {"parsed": bool(parsed), "right": right, "answer": str(parsed[-1].parsed[0])[:8000] if parsed else None}


def _gold_readings(expected: str) -> list[str]:
    """Return the data's answer, or the boxes in which a solution has it; `1,22` may also be a decimal number."""
    if find_boxes(expected):
        contents, _ = joined_boxes(expected)
        return [", ".join(contents)] if contents else []
    plain = mathematics.clean_expression(expected)
    decimal = mathematics.decimal_comma(plain)
    return [plain] if decimal is None else [plain, decimal]


class Answer:
    """An answer as text and as what math-verify reads: an expression, its text, or nothing."""

    def __init__(self, text: str, *, prose: bool = False, letters: bool = False) -> None:
        from math_verify import parse

        self.text = mathematics.plain_signs(text) if prose else mathematics.ungrouped(mathematics.clean_expression(text))
        bare, self.unit = (self.text, None) if prose else mathematics.unit(self.text, letters=letters)
        self.time = None if prose else mathematics.time_of_day(self.text)
        self.sequence = [] if prose or not mathematics.ELLIPSIS.search(self.text) else _sequence(self.text)
        if prose:
            self.parsed = parse(bare, parsing_timeout=None)
        else:
            bare = mathematics.ungrouped(bare)
            self.parsed = parse(f"${bare}$", parsing_timeout=None) or parse(bare, parsing_timeout=None)
        if not self.parsed and self.text.strip():
            self.parsed = [] if prose else [self.text]

    def equals(self, other: Answer) -> bool:
        """Return whether another answer is equal to this one, the right one."""
        if self.time and other.time:
            return bool(self.time & other.time)
        if self.sequence or other.sequence:
            return len(self.sequence) == len(other.sequence) and all(
                first == second if isinstance(first, str) or isinstance(second, str) else first.equals(second)
                for first, second in zip(self.sequence, other.sequence, strict=True)
            )
        kinds = {mathematics.brackets(self.text), mathematics.brackets(other.text)}
        if len(kinds - {""}) == 2:
            return False
        return self._same_unit(other)

    def _same_unit(self, other: Answer) -> bool:
        first, second = self, other
        if first.unit and not second.unit:
            second = Answer(second.text, letters=True) if mathematics.unit(second.text, letters=True)[1] else second
        elif second.unit and not first.unit:
            first = Answer(first.text, letters=True) if mathematics.unit(first.text, letters=True)[1] else first
        if first.unit is None or second.unit is None or first.unit == second.unit:
            return _any_equal(first.parsed, second.parsed)
        if first.unit.measures != second.unit.measures:
            return False
        from sympy import Rational

        ratio = second.unit.factor / first.unit.factor
        try:
            return equal(first.parsed[0], second.parsed[0] * Rational(ratio.numerator, ratio.denominator))
        except TypeError:  # a set, or no expression
            return False


def _sequence(text: str) -> list[Answer | str]:
    """Return the members of a sequence with an ellipsis, which stands for itself as a string."""
    parts: list[Answer | str] = []
    for piece in mathematics.ELLIPSIS.split(text):
        parts += [Answer(part) for part in mathematics.top_level_parts(piece.strip(" ()[]")) if part]
        parts.append("...")
    return parts[:-1]


def _any_equal(golds: Sequence[Expression], answers: Sequence[Expression]) -> bool:
    return any(equal(gold, answer) for gold in golds for answer in answers)


def equal(gold: Expression, answer: Expression) -> bool:
    """Return whether two results of math-verify's `parse` are equal."""
    from sympy import Basic, Interval, MatrixBase, MatrixExpr, nan, zoo

    if isinstance(gold, str) or isinstance(answer, str):
        return isinstance(gold, str) and isinstance(answer, str) and _same_words(gold, answer)
    gold, answer = _unwrapped(gold, answer)
    if isinstance(gold, MatrixBase | MatrixExpr) or isinstance(answer, MatrixBase | MatrixExpr):
        return _equal_matrices(gold, answer)
    if not isinstance(gold, Basic) or not isinstance(answer, Basic):
        return _verify(gold, answer)
    if gold.has(nan, zoo) or answer.has(nan, zoo):
        return False
    if _is_number(gold) and _is_number(answer):
        return any(_equal_numbers(a, b) for a, b in _percent_readings(gold, answer))
    if isinstance(gold, Interval) and isinstance(answer, Interval):
        ends = (gold.left_open, gold.right_open) == (answer.left_open, answer.right_open)
        return bool(ends) and equal(gold.start, answer.start) and equal(gold.end, answer.end)
    golds, answers = _members(gold, answer), _members(answer, gold)
    if golds is not None and answers is not None:
        if len(golds) != len(answers):
            return False
        ordered = _is_ordered(gold) or _is_ordered(answer)
        if ordered or len(golds) > _MAX_SET:
            return all(equal(a, b) for a, b in zip(golds, answers, strict=True))
        return _matches(golds, answers)
    return _verify(gold, answer) and not _differ_at_a_point(gold, answer)


def _verify(gold: Expression, answer: Expression) -> bool:
    from math_verify import verify

    return bool(verify(gold, answer, allow_set_relation_comp=True, timeout_seconds=None))


def _same_words(gold: str, answer: str) -> bool:
    first, second = (" ".join(text.split()).strip(" .$") for text in (gold, answer))
    return first.casefold() == second.casefold() and bool(first)


def _unwrapped(gold: Expression, answer: Expression) -> tuple[Expression, Expression]:
    """Return the right sides of `x = 5` and `x = 5`, and of `x = 5` and `5`."""
    from math_verify.grader import is_assignment_relation, is_equation, take_first_relation, take_last_relation

    left, right = is_assignment_relation(gold), is_assignment_relation(answer)
    if left and right and take_first_relation(gold).lhs == take_first_relation(answer).lhs:
        return take_last_relation(gold).rhs, take_last_relation(answer).rhs
    if left and not is_equation(answer):
        return take_last_relation(gold).rhs, answer
    if right and not is_equation(gold):
        return gold, take_last_relation(answer).rhs
    return gold, answer


def _is_number(expression: Expression) -> bool:
    from sympy import Expr

    return isinstance(expression, Expr) and not expression.free_symbols and expression.is_commutative is not False


def _percent_readings(gold: Expression, answer: Expression) -> list[tuple[Expression, Expression]]:
    """Return what to compare: 28% is 28 or 0.28 beside a number without a percent sign."""
    from math_verify.grader import get_pct_val

    first, second = get_pct_val(gold), get_pct_val(answer)
    if first is not None and second is not None:
        return [(first, second)]
    if first is not None:
        return [(first, answer), (gold.doit(), answer)]
    return [(gold, answer)] if second is None else [(gold, second), (gold, answer.doit())]


def _equal_numbers(gold: Expression, answer: Expression) -> bool:
    from sympy import Float

    if gold == answer:
        return True
    first, second = (number.doit().evalf(_DIGITS) for number in (gold, answer))
    if not (first.is_number and second.is_number and first.is_finite and second.is_finite):
        return False
    size = max(abs(first), abs(second))
    difference = abs(first - second) / size if size else size
    if not difference.is_comparable:
        return _verify(gold, answer)
    if _is_rounded(gold, answer):
        return True
    if gold.has(Float) or answer.has(Float):
        return bool(difference <= 1e-12) or bool(difference <= _ROUNDED and first.round(6) == second.round(6))
    if gold.doit().is_Rational and answer.doit().is_Rational:
        return bool(gold.doit() == answer.doit())
    return bool(difference <= _EXACT)


def _is_rounded(gold: Expression, answer: Expression) -> bool:
    """Return whether the answer is a fraction as a decimal, rounded after at least four decimals and five digits."""
    from sympy import Float, Rational

    gold = gold.doit()
    if not (isinstance(gold, Rational) and isinstance(answer, Float)):
        return False
    decimal = Decimal(repr(float(answer)))
    exponent = decimal.as_tuple().exponent
    if not isinstance(exponent, int) or exponent > -4 or len(decimal.as_tuple().digits) < 5:
        return False
    scaled = gold * 10**-exponent
    return bool(abs(scaled - Rational(str(decimal)) * 10**-exponent) <= Rational(1, 2))


def _members(expression: Expression, other: Expression) -> list[Expression] | None:
    """Return the members of a set or tuple in their order, or None; an open interval beside either is a pair."""
    from sympy import FiniteSet, Interval, Tuple

    if isinstance(expression, Tuple):
        return list(expression.args)
    if isinstance(expression, FiniteSet):
        members = getattr(expression, "_unsorted_args", None)
        return list(members if isinstance(other, Tuple | Interval) and members else expression.args)
    if (
        isinstance(expression, Interval)
        and isinstance(other, Tuple | FiniteSet)
        and expression.left_open
        and expression.right_open
    ):
        return [expression.start, expression.end]
    return None


def _is_ordered(expression: Expression) -> bool:
    from sympy import Interval, Tuple

    return isinstance(expression, Tuple | Interval)


def _matches(golds: Sequence[Expression], answers: Sequence[Expression]) -> bool:
    """Return whether each gold member has an answer of its own; equality is transitive, so the first will do."""
    left = list(answers)
    for gold in golds:
        index = next((i for i, answer in enumerate(left) if equal(gold, answer)), None)
        if index is None:
            return False
        left.pop(index)
    return True


def _equal_matrices(gold: Expression, answer: Expression) -> bool:
    from sympy import MatrixBase

    gold, answer = gold.doit(), answer.doit()
    if not (isinstance(gold, MatrixBase) and isinstance(answer, MatrixBase)) or gold.shape != answer.shape:
        return _verify(gold, answer)
    return all(equal(a, b) for a, b in zip(gold.flat(), answer.flat(), strict=True))


def _differ_at_a_point(gold: Expression, answer: Expression) -> bool:
    """Return whether two expressions with variables have different values at some point: rounding hides tiny coefficients."""
    from sympy import Expr, Rational, Symbol

    if not (isinstance(gold, Expr) and isinstance(answer, Expr)) or gold == answer:
        return False
    if isinstance(gold, Symbol) or isinstance(answer, Symbol):  # a word: math-verify compares letters
        return False
    symbols = sorted(gold.free_symbols | answer.free_symbols, key=str)
    for start in (3, 11):
        point = {symbol: Rational(start + 2 * index, 7) for index, symbol in enumerate(symbols)}
        first, second = (expression.subs(point).doit().evalf(_DIGITS) for expression in (gold, answer))
        size = max(abs(first), abs(second)) if first.is_comparable and second.is_comparable else 0
        if size and abs(first - second) / size > _ROUNDED:
            return True
    return False
