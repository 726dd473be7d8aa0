"""The words of the laboratories' languages, in the order of their ids. Knows no task: it lists what texts may say."""

from __future__ import annotations

#: `micro` has a token for each whole number from 0 to this.
LARGEST = 99
#: `micro-reasoning` has a token for each whole number below this.
PLACES = 12

NAMES = ("Ann", "Bob", "Cid", "Dora")
COLOURS = ("red", "blue", "gold", "green", "pink", "grey", "black", "white", "brown", "violet", "orange", "silver")

_MICRO = [
    "system",
    "user",
    "assistant",
    ".",
    ",",
    ":",
    ";",
    "?",
    "!",
    "+",
    "-",
    "=",
    "(",
    ")",
    "Step",
    "Answer",
    "Start",
    "at",
    "Add",
    "Subtract",
    "What",
    "is",
    "the",
    "result",
    "it",
    "does",
    "show",
    "has",
    "coins",
    "gets",
    "pays",
    "How",
    "many",
    "Wait",
    "hours",
    "plus",
    "The",
    "clock",
    "shows",
    "jar",
    "Pour",
    "colour",
    "with",
    "gives",
    "Correct",
    "solution",
    "Wrong",
    "Right",
    "Solution",
    "Gold",
    "answer",
    "Find",
    "first",
    "error",
    "Why",
    "right",
    "Key",
    "idea",
    "Feedback",
    "Solve",
    "correctly",
    "Here",
    "another",
    "problem",
    "your",
    "previous",
    "attempt",
    "was",
    "wrong",
    "not",
    "understood",
    "<error_quote>",
    "</error_quote>",
    "<explanation>",
    "</explanation>",
    "<think>",
    "</think>",
    "no",
    "yes",
    "one",
    "two",
    "three",
    "then",
    "because",
    "so",
    "must",
    "be",
    "instead",
    "of",
    "and",
    "or",
    "but",
]

PATHS = {
    "woods": ("oak", "elm", "ash", "fir", "yew", "birch"),
    "docks": ("pier", "quay", "mole", "crane", "buoy", "barge"),
    "mines": ("shaft", "drift", "adit", "seam", "pit", "winze"),
    "gates": ("arch", "door", "ramp", "stair", "porch", "vault"),
}
TRACKS = {
    "woods": ("moss", "fern", "reed"),
    "docks": ("rope", "sail", "keel"),
    "mines": ("coal", "salt", "zinc"),
    "gates": ("bolt", "hinge", "lock"),
}
_SOLUTIONS = "In the is at . , takes Where are they ? from to From brings : then Check right wrong Wait Answer"
_PROMPTS = (
    "system user assistant Correct Wrong Right solution Gold answer Find first error Why Key idea Feedback no understood Here "
    "another Solve it like this correctly your previous attempt was not and"
)
_TAGS = "<error_quote> </error_quote> <explanation> </explanation> <think> </think>"


def _journeys() -> list[str]:
    places = [word for world in TRACKS for word in (world, *TRACKS[world], *PATHS[world])]
    return [*map(str, range(PLACES)), *NAMES, *places, *_SOLUTIONS.split(), *_PROMPTS.split(), *_TAGS.split()]


#: Embedded model -> its words, without the special tokens. The models depend on their order, so it must never change.
WORDS: dict[str, list[str]] = {
    "micro": [*map(str, range(LARGEST + 1)), *NAMES, *COLOURS, *_MICRO],
    "micro-reasoning": _journeys(),
}
