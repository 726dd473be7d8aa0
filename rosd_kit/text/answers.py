"""Says which part of a response is its answer, where tags and boxes lie in each other.

One precedence for all verifiers: the last complete tag, then the last box; whatever was found is then taken out of tags
and boxes that enclose it whole, so that `<answer>\\boxed{B}</answer>` and `\\boxed{<answer>B</answer>}` both give `B`.
"""

from __future__ import annotations

from rosd_kit.text.boxes import find_boxes, last_box
from rosd_kit.text.tags import read_tag

#: Deepest nesting that is taken apart.
_MAX_DEPTH = 8


def bare_answer(text: str, tag: str = "answer") -> str:
    """Return an answer without the tags and boxes in which it lies whole, with signs of mathematics around them at most."""
    for _ in range(_MAX_DEPTH):
        inner = read_tag(text, tag).text
        boxes = find_boxes(text)
        around = text[: boxes[0].start] + text[boxes[0].end :] if len(boxes) == 1 else text
        if inner is not None:
            text = inner
        elif len(boxes) == 1 and boxes[0].content is not None and not any(sign.isalnum() for sign in around):
            text = boxes[0].content
        else:
            break
    return text.strip()


def tag_or_box(text: str, tag: str, *, boxed: bool = True) -> str | None:
    """Return the bare answer in the last complete tag, or without any tag in the last box; None if there is neither.

    A tag that is empty or not closed gives None: the model meant to answer there.
    """
    tagged = read_tag(text, tag)
    answer = tagged.text
    if tagged.status == "missing" and boxed:
        answer = last_box(text)
    return None if answer is None else bare_answer(answer, tag)
