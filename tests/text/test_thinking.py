"""Removing thinking from responses, and before every verifier."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

import rosd_kit as rk
from rosd_kit.components.verifiers import BySuite, Exact, Majority, MultipleChoice
from rosd_kit.plugins.manager import PluginManager
from rosd_kit.recipe import build_components, load_recipe
from rosd_kit.testing import fake_completion
from rosd_kit.text.spans import decode_with_spans
from rosd_kit.text.thinking import check_pairs, is_thinking_mark, opens_thinking, strip_thinking
from tests.components.rows import asking
from tests.text.conftest import tokenizer_of

SPELLINGS = [
    ("<think>", "</think>"),
    ("<thinking>", "</thinking>"),
    ("< Thinking >", "</ thinking >"),
    ("<thought>", "</thought>"),
    ("<reasoning>", "</reasoning>"),
    ("<seed:think>", "</seed:think>"),
    ("<longcat_think>", "</longcat_think>"),
    ("<think_faster>", "</think_faster>"),
    ("[THINK]", "[/THINK]"),
    ("◁think▷", "◁/think▷"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("<|think_start|>", "<|think_end|>"),
    ("<|think|>", "<|/think|>"),
    ("<|channel>thought\n", "<channel|>"),
    ("<|channel|>analysis<|message|>", "<|end|><|start|>assistant<|channel|>final<|message|>"),
    ("analysis", "assistantfinal"),
]


@pytest.mark.parametrize(("opening", "closing"), SPELLINGS)
def test_every_spelling_is_removed_closed_unclosed_and_opened_by_the_template(opening, closing):
    assert strip_thinking(f"{opening}Is it 7?{closing}It is 8.") == "It is 8."
    assert strip_thinking(f"{opening}Is it 7? Answer: 7") == ""
    assert strip_thinking(f"Is it 7?{closing}It is 8.") == "It is 8."


@pytest.mark.parametrize(
    ("text", "rest"),
    [
        ("plain", "plain"),
        ("<think>a</think>b<think>c</think>d", "d"),
        ("kept <think> never closed", "kept "),
        ("a</think>b<think>c", "b"),
        ("<think>a [THINK] b</think>c", "c"),
        ("[think] and [Reasoning] are headings", "[think] and [Reasoning] are headings"),
        ("the analysis of variance", "the analysis of variance"),
        ("analysis of variance", "analysis of variance"),
        ("x <thinker> y", "x <thinker> y"),
        ("<|channel|>commentary to=f<|message|>{}", " to=f<|message|>{}"),
    ],
)
def test_only_text_after_the_last_thinking_block_is_kept(text, rest):
    assert strip_thinking(text) == rest


@given(
    st.lists(st.sampled_from([*(mark for pair in SPELLINGS for mark in pair), "a ", "<", "|", "\n"]), max_size=9).map("".join)
)
def test_stripping_twice_changes_nothing_and_the_rest_is_a_part_of_the_text(text):
    rest = strip_thinking(text)
    assert rest in text
    assert strip_thinking(rest) == rest


def test_more_marks_are_taken_literally():
    pairs = (("(ponder", ")"), ("Ponder:", "Say:"))
    assert strip_thinking("Ponder: is it (7?) Say: 8", pairs) == " 8"
    assert strip_thinking("ponder: 8", pairs) == "ponder: 8"
    assert strip_thinking("<think>7</think>8 Ponder: 9", pairs) == "8 "


@pytest.mark.parametrize("pair", [("", "</x>"), ("<x>", " "), ("<x>", "<x>")])
def test_marks_that_cannot_work_are_refused(pair):
    with pytest.raises(ValueError, match="two different marks"):
        check_pairs([pair])


def test_tokens_that_mark_thinking_are_known():
    assert all(map(is_thinking_mark, ["[THINK]", "</seed:think>", "<|channel|>", "<|END_THINKING|>"]))
    assert not any(map(is_thinking_mark, ["<|im_end|>", "<s>", "think", "</s>"]))


class Seen(rk.Verifier):
    """Reports the text that it gets."""

    name = "seen"

    def verify(self, problem: rk.Problem, text: str) -> rk.Verdict:
        """Return the text as the answer."""
        return rk.Verdict(score=0.0, success=False, answer=text)


class SeenAgain(Seen):
    """Passes on to its base."""

    name = "seen_again"

    def verify(self, problem: rk.Problem, text: str) -> rk.Verdict:
        """Return what the base returns."""
        return super().verify(problem, text)


class SeenWhole(Seen):
    """Judges thinking itself."""

    name = "seen_whole"
    reads_thinking = True


THOUGHT = "[THINK]Answer: 7[/THINK]Answer: 8"


@pytest.mark.parametrize(("cls", "seen"), [(Seen, "Answer: 8"), (SeenAgain, "Answer: 8"), (SeenWhole, THOUGHT)])
def test_a_verifier_sees_the_answer_unless_it_reads_thinking(cls, seen):
    assert cls().verify(asking("8"), THOUGHT).answer == seen
    assert [verdict.answer for verdict in cls().verify_group(asking("8"), [THOUGHT])] == [seen]


@pytest.mark.parametrize("opening", ["<think>", "◁think▷", "<seed:think>"])
def test_thinking_is_no_answer_to_exact_and_has_no_vote(opening):
    closing = opening[0] + "/" + opening[1:]
    thought = f"{opening}Answer: 7{closing}I do not know."
    assert Exact().verify(asking("7"), thought).status == "unparsable"
    assert Exact().verify(asking("7"), f"{opening}Hm.\nAnswer: 7").status == "unparsable"
    verdicts = Majority().verify_group(asking("7"), [thought, thought, "Answer: 8"])
    assert [(v.success, v.answer) for v in verdicts] == [(False, None), (False, None), (True, "8")]


def test_a_verifier_that_passes_on_lets_the_inner_one_read_thinking():
    inner, letters = SeenWhole(), MultipleChoice()
    outer = BySuite(BySuite.Config(default="x"), {"whole": inner}, letters)
    assert outer.verify(replace(asking("8"), suite="whole"), THOUGHT).answer == THOUGHT
    assert outer.verify(asking("B"), "<think><answer>A</answer></think><answer>B</answer>").success


def test_marks_of_the_recipe_reach_every_component():
    registry = PluginManager(selection="builtin").registry
    changes = ["thinking=[['<ponder>','</ponder>']]", "verifier={name: by_suite, default: exact}"]
    components = build_components(load_recipe("rosd", changes, registry=registry), registry)
    assert {component.thinking for component in components} == {(("<ponder>", "</ponder>"),)}
    assert components.verifier.verify(asking("7"), "<ponder>Answer: 7</ponder>Answer: 8").answer == "8"
    with pytest.raises(rk.RecipeError, match="thinking"):
        load_recipe("rosd", ["thinking=[['','']]"], registry=registry)


def test_control_tokens_that_mark_thinking_stay_in_the_text():
    tokenizer = copy.deepcopy(tokenizer_of("byte_level"))
    tokenizer.add_special_tokens({"additional_special_tokens": ["[THINK]", "[/THINK]", "<|im_end|>"]})
    ids = tokenizer("[THINK]a 7[/THINK]x = 8<|im_end|>", add_special_tokens=False)["input_ids"]
    text, spans = decode_with_spans(tokenizer, ids)
    assert (text, strip_thinking(text)) == ("[THINK]a 7[/THINK]x = 8", "x = 8")
    assert (spans[0], spans[-1]) == ((0, 7), (len(text), len(text)))


@pytest.mark.parametrize(
    ("header", "opens"),
    [
        ("<|im_end|>\n<|im_start|>assistant\n<think>\n", True),
        ("<|im_start|>assistant\n<think>\n\n</think>\n\n", False),
        ("<|im_start|>assistant\n", False),
        ("<｜Assistant｜><think>", True),
        ("<|im_assistant|>assistant<|im_middle|>◁think▷", True),
        ("<|CHATBOT_TOKEN|><|START_THINKING|>", True),
        ("<|CHATBOT_TOKEN|><|START_THINKING|><|END_THINKING|>", False),
        ("[/INST][THINK]", True),
        ("<seed:bos>assistant\n<seed:think>", True),
        ("<|start|>assistant<|channel|>analysis<|message|>", True),
        ("<|start|>assistant<|channel|>final<|message|>", False),
        ("assistant: <ponder>", True),
        ("assistant: <ponder></ponder>", False),
    ],
)
def test_a_header_may_leave_thinking_open(header, opens):
    assert opens_thinking(header, (("<ponder>", "</ponder>"),)) == opens


@pytest.mark.parametrize("truncated", ["wrong", "score"])
@pytest.mark.parametrize("by_group", [False, True])
def test_what_was_cut_off_in_thinking_that_the_template_opened_has_no_answer(by_group, truncated):
    verifier = Exact(Exact.Config(truncated=truncated))

    def verdict(text, finish="length", begins=True):
        completion = replace(fake_completion(text, finish_reason=finish), begins_in_thinking=begins)
        return (verifier.judge_group(asking("8"), [completion]) if by_group else [verifier.judge(asking("8"), completion)])[0]

    guess = "Perhaps Answer: 8\nNo, let me see"
    assert not verdict(guess).success and verdict(guess).answer is None
    assert verdict(guess + "</think>Answer: 8").success == (truncated == "score")
    assert not verdict("Answer: 8</think>Answer: 7").success and not verdict("Answer: 8</think>").success
    assert verdict("Answer: 8", finish="stop").success, "a response that ends by itself is read as a whole"
    assert verdict("Answer: 8", begins=False).success == (truncated == "score")


def test_a_verifier_of_thinking_sees_what_was_cut_off():
    class Reads(rk.Verifier):
        """Counts words of the whole response."""

        name = "reads"
        reads_thinking = True

        def verify(self, problem, text):
            return rk.Verdict(score=0.5, success=False, feedback=text)

    completion = replace(fake_completion("a b", finish_reason="length"), begins_in_thinking=True)
    assert Reads().judge(asking("8"), completion).feedback == "a b"
