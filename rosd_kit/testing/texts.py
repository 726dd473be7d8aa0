"""Adversarial model outputs that verifiers and reflectors must read without failing."""

from __future__ import annotations

from rosd_kit.types import Problem


def adversarial_texts(problem: Problem) -> dict[str, str]:
    """Return texts keyed by what is special about each; several have the right answer in a misleading place."""
    answer = problem.answer
    return {
        "nothing": "",
        "white space": " \n\t\r\n ",
        "a lone surrogate": "Answer : \ud800",
        "control characters": "\x00\x1b[31m\x07 Answer : 4 \x7f",
        "many scripts": "Ответ : ４２ , 答案：四十二 , \u202e24\u202c 👩‍🔬 ﬁ",
        "digits of other scripts": "Answer : ٤٢",
        "many answers": f"Answer : {answer} . Answer : 7 . Answer : {answer} . Answer : 8 .",
        "the answer while thinking": f"<think>Answer : {answer} . <answer>{answer}</answer></think>",
        "thinking that never ends": f"<think>Answer : {answer}",
        "half a tag": "<answer>42",
        "tags inside tags": f"<answer><answer>{answer}</answer></answer>",
        "an empty tag": "<answer></answer> \\boxed{}",
        "unbalanced braces": "\\boxed{{{{1}}} }}}} \\frac{",
        "deep nesting": "(" * 3000 + "1" + ")" * 3000,
        "deep boxes": "\\boxed{" * 2000,
        "deep lists of JSON": "Action: x\nAction Input: " + "[" * 5000,
        "a huge number": "Answer : " + "9" * 5000,
        "a tower of powers": "Answer : 9^9^9^9^9^9",
        "a division by zero": "\\boxed{1/0}",
        "code": "Answer : __import__('os').system('false')",
        "a regular expression": "Answer : (a+)+$ [ * ?",
        "a template": "Answer : {problem} {answer} %s {0}",
        "one long word": "a" * 50_000,
        "one long line of white space": "Answer" + " " * 50_000 + ": x",
        "many lines": "Answer :\n" * 5000,
        "not a number": "Answer : nan . Answer : inf .",
        "the prompt again": " ".join(message["content"] for message in problem.messages),
    }
