"""Fitting prompts into a token budget."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rosd_kit.text.budget import MARK, assemble, fit_prompt
from rosd_kit.types import Prompt, Section

HEADER = 3


def count(messages):
    """Count one token per word, plus three for the generation header."""
    return HEADER + sum(len(message["content"].split()) for message in messages)


def prompt(*sections, head=(), cut="middle"):
    parts = (Section(text=text, cut_priority=priority or None, cut=cut) for text, priority in sections)
    return Prompt(head=tuple(head), sections=tuple(parts))


def content(fitted):
    return fitted.messages[-1]["content"]


def test_a_prompt_that_fits_is_left_alone():
    whole = prompt(("problem ", 0), ("idea idea", 1))
    fitted = fit_prompt(whole, count, 6)
    assert (fitted.messages, fitted.cut, fitted.fits) == (assemble(whole), 0, True)


def test_what_no_tokenizer_takes_is_replaced():
    assert assemble(prompt(("it printed ", 0), ("a\ud83db", 1)))[-1]["content"] == "it printed a\ufffdb"


@pytest.mark.parametrize(
    ("cut", "left"),
    [("middle", "one ... four"), ("end", "one two ..."), ("start", "... three four")],
)
def test_privileged_text_is_shortened_where_its_section_says_and_marked(cut, left):
    whole = prompt(("the problem ", 0), ("one two three four", 1), (" answer now", 0), cut=cut)
    fitted = fit_prompt(whole, count, HEADER + 7)
    assert content(fitted) == f"the problem {left} answer now"
    assert (fitted.cut, fitted.fits) == (1, True)


def test_the_conclusion_is_the_last_thing_to_go():
    solution = "First we " + "compute and " * 50 + "so it is\n\\boxed{2}."
    for budget in range(HEADER + 3, HEADER + 40):
        fitted = fit_prompt(prompt(("p ", 0), (solution, 1)), count, budget)
        assert content(fitted).endswith("\\boxed{2}.") and fitted.fits
    assert content(fit_prompt(prompt(("p ", 0), (solution, 1)), count, HEADER + 3)) == "p ...\n\\boxed{2}."
    assert content(fit_prompt(prompt(("p ", 0), (solution, 1)), count, HEADER + 6)) == "p First we ... is\n\\boxed{2}."


def test_a_word_without_end_does_not_hide_the_others():
    text = "see " + "x" * 500 + " so 2"
    fitted = fit_prompt(prompt(("p ", 0), (text, 1)), lambda m: sum(len(x["content"]) for x in m), 40)
    assert fitted.fits and content(fitted).startswith("p see x") and content(fitted).endswith("x so 2")


def test_the_smallest_priority_is_cut_first():
    fitted = fit_prompt(prompt(("p ", 0), ("sol " * 6, 1), ("idea " * 3, 2), ("end", 0)), count, HEADER + 6)
    assert "sol" in content(fitted) or content(fitted).count("idea") == 3
    assert content(fitted).count("idea") == 3
    assert content(fitted).startswith("p ") and content(fitted).endswith("end")


def test_a_second_section_is_cut_when_the_first_is_not_enough():
    fitted = fit_prompt(prompt(("p ", 0), ("sol " * 6, 1), ("idea " * 6, 2), ("end", 0)), count, HEADER + 5)
    assert "sol" not in content(fitted)
    assert fitted.cut == 2 and fitted.fits


def test_the_problem_is_never_cut_even_if_nothing_fits():
    fitted = fit_prompt(prompt(("a long problem that stays ", 0), ("idea idea", 1)), count, HEADER + 2)
    assert content(fitted) == "a long problem that stays "
    assert not fitted.fits


def test_earlier_messages_are_never_touched():
    head = ({"role": "system", "content": "rules rules rules"},)
    fitted = fit_prompt(prompt(("p ", 0), ("idea " * 9, 1), head=head), count, HEADER + 6)
    assert fitted.messages[0] == head[0] and fitted.fits


def test_text_without_spaces_is_cut_by_characters():
    def characters(messages):
        return sum(len(message["content"]) for message in messages)

    assert content(fit_prompt(prompt(("問題", 0), ("答" * 20, 1)), characters, 12)) == f"問題答答{MARK} 答答答"
    assert content(fit_prompt(prompt(("問題", 0), ("答" * 20, 1), cut="end"), characters, 12)) == "問題" + "答" * 6 + MARK


@given(
    sections=st.lists(st.tuples(st.text(alphabet="ab \n答", max_size=20), st.integers(0, 3)), min_size=1, max_size=5),
    budget=st.integers(0, 40),
    cut=st.sampled_from(["middle", "start", "end"]),
)
def test_uncut_sections_stay_in_order_and_fitting_prompts_meet_the_budget(sections, budget, cut):
    whole = prompt(*sections, cut=cut)
    fitted = fit_prompt(whole, count, budget)
    if fitted.fits:
        assert count(fitted.messages) <= budget
    rest = content(fitted)
    for text, priority in sections:
        if priority == 0:
            assert text in rest
            rest = rest[rest.index(text) + len(text) :]
    if not fitted.fits:
        assert fitted.cut == sum(1 for text, priority in sections if priority and text)


def test_a_prompt_without_any_cuttable_text_left_does_not_fit():
    assert not fit_prompt(prompt(("p ", 0), ("idea idea", 1)), count, HEADER + 1).fits
    assert fit_prompt(prompt(("p ", 0), ("sol sol sol", 1), ("idea", 2)), count, HEADER + 2).fits


@pytest.mark.parametrize("budget", range(6, 30))
def test_as_much_as_possible_is_kept(budget):
    fitted = fit_prompt(prompt(("p ", 0), (" ".join(f"w{i}" for i in range(30)), 1)), count, budget)
    assert fitted.fits
    assert count(fitted.messages) == budget
