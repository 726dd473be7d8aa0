"""The normal form of answers, and the verifiers that compare in it."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rosd_kit.components.verifiers import Exact, Majority
from rosd_kit.text.leaks import leaks
from rosd_kit.text.normal import normal_form
from tests.components.rows import asking


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        (unicodedata.normalize("NFD", "café Ångström 각"), "café Ångström 각"),
        ("−3 – it’s “so” …", '-3 - it\'s "so" ...'),
        ("１２．５％ ＡＢ", "12.5% AB"),
        ("1\u202f000\u00a0km\u3000x", "1 000 km x"),
        ("zero\u200bwidth\ufeff soft\u00adhyphen", "zerowidth softhyphen"),
        ("1⁄2 ∕ 2∶3", "1/2 / 2:3"),
        ("ﬁve", "five"),
        ("٤٢ Α x² 日本", "٤٢ Α x² 日本"),
        ("two\nlines", "two\nlines"),
    ],
)
def test_spellings_of_the_same_text_have_one_form(text, plain):
    assert normal_form(text) == plain


@given(st.text())
def test_the_form_of_a_form_is_itself_for_every_encoding(text):
    form = normal_form(text)
    assert normal_form(form) == form == normal_form(unicodedata.normalize("NFD", text))


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ("-3", "−3"),
        ("it's", "it’s"),
        ("42", "４２"),
        ("3.14", "３．１４"),
        ("1 000", "1\u202f000"),
        ("a-b", "a–b"),
        ("é", "e\u0301"),
    ],
)
def test_answers_are_equal_in_any_spelling_on_either_side(answer, said):
    for one, other in ((answer, said), (said, answer)):
        assert Exact().verify(asking(one), f"Answer: {other}").success
        assert Exact().verify(asking(one), f"Answer：{other}").success
    votes = Majority().verify_group(asking("?"), [f"Answer: {answer}", f"Answer: {said}", "Answer: no"])
    assert [vote.success for vote in votes] == [True, True, False]


def test_a_pattern_may_contain_typographic_signs():
    exact = Exact(Exact.Config(pattern="答案：(.+)"))
    assert exact.verify(asking("42"), "答案：４２").success
    assert not Exact().verify(asking("3"), "Answer: ３３").success


def test_a_leak_is_noticed_in_typographic_spelling():
    assert leaks("According\u00a0to the ground‑truth solution") and not leaks("According to the rules")
