"""Finding the start of a sentence."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rosd_kit.text.sentences import sentence_start


@pytest.mark.parametrize(
    ("text", "inside", "sentence"),
    [
        ("First one. Second one.", "Second", "Second one."),
        ("First one. Second one.", "one. S", "First one. Second one."),
        ("Pi is 3.14 and more. Next.", "more", "Pi is 3.14 and more. Next."),
        ("See e.g. the rule. Then.", "rule", "See e.g. the rule. Then."),
        ("By J. Smith. Then x.", "x", "Then x."),
        ("Line one\nline two", "two", "line two"),
        ("Is it? Yes! So.", "So", "So."),
        ('He said "no." Then left.', "left", "Then left."),
        ("Step 1 : a . Step 2 : b .", "b", "Step 2 : b ."),
        ("  spaced", "spaced", "spaced"),
        ("第一步：2+3=6。第二步：6*2=12。所以是12。", "6*2", "第二步：6*2=12。所以是12。"),
        ("まず足します。次に3.14倍です。", "倍", "次に3.14倍です。"),
        ("他说：“不对。”然后走了！好？是．", "走", "然后走了！好？是．"),
        ("（已知。）求３．１４的值", "的值", "求３．１４的值"),
        ("はい｡次は2です", "2", "次は2です"),
        ("答案是31.第二步", "二", "第二步"),
        ("यह छह है। वह दो है॥ अब", "दो", "वह दो है॥ अब"),
        ("यह छह है।वह दो है", "दो", "वह दो है"),
        ("هل هذا صحيح؟نعم", "نعم", "نعم"),
        ("یہ چھ ہے۔ وہ دو ہے", "وہ", "وہ دو ہے"),
        ("القيمة ٣.١٤ هنا", "هنا", "القيمة ٣.١٤ هنا"),
        ("(It is 5.) Then 6.", "6", "Then 6."),
        ("**It is 5.** Then 6.", "6", "Then 6."),
        ("The sum is 31.Then we add.", "add", "Then we add."),
        ("Call np.array or math.Sqrt(2) here", "here", "Call np.array or math.Sqrt(2) here"),
        ("So ... then 1 + 2 + ... + 10 and so … on", "on", "So ... then 1 + 2 + ... + 10 and so … on"),
        ("Hmm... So we add", "add", "So we add"),
        ("1. Add two. 2. Multiply it.", "Multiply", "2. Multiply it."),
        ("First.\n  3. Last one", "one", "3. Last one"),
        ("Step 2. We add. Then", "add", "Step 2. We add. Then"),
        ("By No. 5 and Eq. (3) of Dr. Jones, w.r.t. x", "x", "By No. 5 and Eq. (3) of Dr. Jones, w.r.t. x"),
        ("Is it? No. Then", "Then", "Then"),
        ("We get 5! = 120 ways", "ways", "We get 5! = 120 ways"),
    ],
)
def test_a_sentence_starts_after_the_last_boundary_before_the_position(text, inside, sentence):
    assert text[sentence_start(text, text.index(inside)) :] == sentence


@given(text=st.text(alphabet="ab .!?\n1。।…)”A", max_size=60), data=st.data())
def test_a_start_is_never_after_the_position_and_is_its_own_start(text, data):
    position = data.draw(st.integers(0, len(text)))
    start = sentence_start(text, position)
    assert 0 <= start <= position
    assert sentence_start(text, start) == start


@pytest.mark.parametrize("text", ["." * 300_000, ". " * 150_000, "." + ")" * 300_000, "\n" * 300_000, "1." * 150_000])
def test_long_runs_of_marks_are_read_in_one_pass(text):
    assert 0 <= sentence_start(text, len(text)) <= len(text)
