"""Turns what a run has written into what the page reads: small, and cut so that a page need not unpack what is not looked at.

    overview   curves, comparisons, warnings, recipe
    rows       one short list a rollout: what the list shows and filters by
    details    everything else of the rollouts of one step

Positions in texts are counted in UTF-16 units here, as a browser counts them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from math import isfinite
from typing import Any

from rosd_kit.evaluation.results import differences
from rosd_kit.report.reading import Record, RunRecords
from rosd_kit.text.leaks import leaks
from rosd_kit.text.quotes import find_quote

#: What a rollout can be filtered by; a row holds the places in this list that apply.
OUTCOMES: dict[str, Callable[[Record], bool]] = {
    "right": lambda r: bool(r.get("success")),
    "wrong": lambda r: not r.get("success"),
    "quote missing": lambda r: r.get("localized") == "missing",
    "quote fuzzy": lambda r: str(r.get("localized")).startswith("fuzzy"),
    "quote normalised": lambda r: str(r.get("localized")).startswith("normalised"),
    "quote ambiguous": lambda r: str(r.get("localized")).endswith("_ambiguous"),
    "wrong diagnosis": lambda r: _misjudged(r),
    "error missed": lambda r: (r.get("judged") or {}).get("start") == "missed",
    "reflection failed": lambda r: r.get("reflection_status") not in (None, "ok", "none", "skipped"),
    "cut off": lambda r: r.get("finish_reason") == "length",
    "speaks of a reference": lambda r: leaks(str(r.get("response", ""))),
    "not trained on": lambda r: r.get("status") != "ok",
}
_SNIPPET = 120


def overview(run: RunRecords, *, first_metric: int = 0, first_evaluation: int = 0) -> Record:
    """Return the page's data but for the rollouts; of metrics and evaluations only what is new since so many records."""
    environment, model = run.environment, run.recipe.get("model")
    return {
        "name": run.folder.resolve().name,
        "method": run.recipe.get("name"),
        "steps": run.recipe.get("steps"),
        "group": run.recipe.get("group_size"),
        "model": model.get("path") if isinstance(model, dict) else None,
        "recipe": run.recipe_text,
        "parts": {slot: _name(run.recipe.get(slot)) for slot in ("reflector", "localizer", "context", "teacher", "divergence")},
        "environment": {key: environment.get(key) for key in ("python", "platform", "device", "threads", "versions", "git")},
        "outcomes": list(OUTCOMES),
        "watch": run.watch.model_dump(),
        "metrics": [_short(record) for record in run.metrics[first_metric:]],
        "evaluations": [_evaluation(record) for record in run.evaluations[first_evaluation:]],
        "differences": [asdict(one) for one in differences(run.comparisons())],
        "warnings": run.warnings(),
    }


def row(record: Record) -> list[Any]:
    """Return what the list of rollouts shows of one: problem, suite, number, outcomes, tokens, beginning."""
    outcomes = [place for place, holds in enumerate(OUTCOMES.values()) if holds(record)]
    text = str(record.get("response", ""))[:_SNIPPET]
    tokens = len(record.get("token_ids") or ())
    return [record.get("problem", "?"), record.get("suite") or "", record.get("index", 0), outcomes, tokens, text]


def detail(record: Record) -> Record:
    """Return everything that is shown of one rollout."""
    text, quote = str(record.get("response", "")), record.get("quote")
    place = utf16(text)
    spans = [(place(start), place(end)) for start, end in record.get("token_spans") or ()]
    shown = {
        key: record.get(key)
        for key in (
            *("answer", "answered", "response", "finish_reason", "score", "success", "feedback", "views", "view_sources"),
            *("reflection", "reflection_status", "idea", "quote", "localized", "judged", "student_prompt", "teacher_prompts"),
            *("status", "weights", "divergence", "student_logprobs", "teacher_logprobs"),
        )
    }
    return shown | {
        "messages": record.get("messages") or [],
        "spans": [end for span in spans for end in span],
        "quoted": _placed(place, _quoted(text, quote, record)),
        "true_error": _placed(place, record.get("true_error")),
        "located_at": None if record.get("located_at") is None else place(record["located_at"]),
    }


def utf16(text: str) -> Callable[[int], int]:
    """Return the function from a position in `text`, in characters, to UTF-16 units; past the end is the end."""
    if text.isascii() or max(text) <= "\uffff":
        return lambda at: min(max(at, 0), len(text))
    places = [0]
    for character in text:
        places.append(places[-1] + (2 if character > "\uffff" else 1))
    return lambda at: places[min(max(at, 0), len(text))]


def _quoted(text: str, quote: str | None, record: Record) -> Sequence[int] | None:
    if not quote or not text:
        return None
    found = find_quote(text, quote, hint=record.get("idea") or "")
    return None if found.outcome == "missing" else (found.start, found.end)


def _placed(place: Callable[[int], int], span: Sequence[int] | None) -> list[int] | None:
    return [place(at) for at in span] if span else None


def _misjudged(record: Record) -> bool:
    judged = record.get("judged") or {}
    return judged.get("start") == "missed" or judged.get("quote") is False or judged.get("idea") is False


def _evaluation(record: Record) -> Record:
    """Return an evaluation without the scores of the single problems, which the page does not show."""
    left_out = ("scores", "failed")
    results = [{key: value for key, value in result.items() if key not in left_out} for result in record["results"]]
    for result, whole in zip(results, record["results"], strict=True):
        result["errors"] = sum((whole.get("failed") or {}).values())
        result["worst_case"] = len(set((whole.get("scores") or {}).values())) <= 1
    return {"step": record["step"], "results": results}


def _short(record: Mapping[str, Any]) -> Record:
    return {name: _rounded(value) for name, value in record.items() if not name.startswith("time/train/")}


def _rounded(value: Any) -> Any:
    return float(f"{value:.5g}") if isinstance(value, float) and isfinite(value) else value


def _name(choice: Any) -> Any:
    return choice.get("name") if isinstance(choice, dict) else choice
