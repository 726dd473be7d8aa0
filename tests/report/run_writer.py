"""Writes runs by hand, so that every number in them is known."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

TEXT = "Step 1 : 26 + 5 = 33 . Step 2 : 33 - 7 = 26 . Answer : 26 ."
WORDS = TEXT.split()


def record(step: int, index: int, **changes: Any) -> dict[str, Any]:
    """Return a wrong rollout of 19 words and an end token, quoted and weighted from its fourth token on."""
    text = TEXT
    ends = [len(" ".join(WORDS[: i + 1])) for i in range(len(WORDS))]
    spans = [[start, end] for start, end in zip([0, *ends], ends, strict=False)] + [[len(text), len(text)]]
    count = len(spans)
    values = {
        "step": step,
        "problem": f"sums-{step}-{index // 4}",
        "suite": "sums",
        "messages": [{"role": "user", "content": "Start at 26 . Add 5 . Subtract 7 . What is the result ?"}],
        "answer": "24",
        "index": index % 4,
        "response": text,
        "token_ids": list(range(count)),
        "token_spans": spans,
        "finish_reason": "stop",
        "score": 0.0,
        "success": False,
        "answered": "26",
        "feedback": "Answer 26 is Wrong",
        "views": ["Step 1 : 26 + 5 = 31 . Step 2 : 31 - 7 = 24 . Answer : 24 ."],
        "view_sources": ["sibling 3"],
        "reflection": "<error_quote> 26 + 5 = 33 </error_quote>",
        "reflection_status": "ok",
        "idea": "26 + 5 = 31 . 31 - 7 = 24",
        "quote": "26 + 5 = 33",
        "weights": [0.0] * 3 + [1.0] * (count - 3),
        "localized": "exact",
        "located_at": 9,
        "true_error": [9, 20],
        "judged": {"start": "exact_start", "quote": True, "idea": True},
        "divergence": [0.0] * 3 + [0.25] + [0.0] * (count - 4),
        "student_logprobs": [0.0] * 3 + [-0.5] * (count - 3),
        "teacher_logprobs": [0.0] * 3 + [-1.5] + [-0.25] * (count - 4),
        "student_prompt": "<|start|> user : Start at 26 . What is the result ? <|end|>",
        "teacher_prompts": ["<|start|> user : Start at 26 . What is the result ? Key idea : 26 + 5 = 31 . <|end|>"],
        "status": "ok",
    }
    return values | changes


def result(suite: str, mean: float, *, in_domain: bool) -> dict[str, Any]:
    scores = {f"{suite}-{i}": float(i < 20 * mean) for i in range(20)}
    ends = {"mean": mean, "low": max(0.0, mean - 0.2), "high": min(1.0, mean + 0.2), "worst_case": False}
    return {
        "suite": suite, "in_domain": in_domain, "mean": mean, "low": ends["low"], "high": ends["high"], "problems": 20,
        "samples": 1, "format_rate": 1.0, "mean_tokens": 20.0, "scores": scores, "pass_at": {"1": ends},
    }  # fmt: skip


def metrics(step: int, **changes: float) -> dict[str, Any]:
    return {
        "step": step,
        "rollout/success": 0.4,
        "rollout/length": 20.0,
        "rollout/entropy": 0.5,
        "train/loss": 0.1 / step,
        "train/weighted_tokens": 40.0,
        "train/weight_change": 0.1,
        "gate/mixed": 2.0,
        "sample/ok": 4.0,
        "localize/exact": 3.0,
        "oracle/exact_start": 3.0,
        "oracle/missed": 1.0,
        "oracle/quote_asked": 4.0,
        "oracle/quote_right": 3.0,
    } | changes


class RunWriter:
    """Writes a run like the training loop: metrics line by line, the samples of a step at once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "samples").mkdir(parents=True)
        (folder / "recipe.yaml").write_text(
            "name: rosd\nsteps: 9\ngroup_size: 4\nmodel: {path: micro}\nlocalizer: {name: error_quote}\n"
        )

    def line(self, file: str, value: dict[str, Any]) -> None:
        with (self.folder / file).open("a") as stream:
            stream.write(json.dumps(value) + "\n")

    def step(self, step: int, records: list[dict[str, Any]], **changes: float) -> None:
        self.line("metrics.jsonl", metrics(step, **changes))
        file = self.folder / f"samples/step-{step:06d}.jsonl"
        file.write_text("".join(json.dumps(one) + "\n" for one in records))

    def evaluation(self, step: int, trained: float, other: float) -> None:
        results = [result("sums", trained, in_domain=True), result("clock", other, in_domain=False)]
        self.line("evaluations.jsonl", {"step": step, "results": results})
