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
    ],
)
def test_a_sentence_starts_after_the_last_boundary_before_the_position(text, inside, sentence):
    assert text[sentence_start(text, text.index(inside)) :] == sentence


@given(text=st.text(alphabet="ab .!?\n1", max_size=60), data=st.data())
def test_a_start_is_never_after_the_position_and_is_its_own_start(text, data):
    position = data.draw(st.integers(0, len(text)))
    start = sentence_start(text, position)
    assert 0 <= start <= position
    assert sentence_start(text, start) == start
