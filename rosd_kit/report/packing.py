"""Converts a run's records into the data of the page, small and in chunks that the page unpacks on demand.

    overview   curves, comparisons, warnings, recipe
    rows       a short list per rollout: what the list of rollouts shows and filters by
    details    everything else about the rollouts of one step

Positions in texts are in UTF-16 code units, as in JavaScript.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from math import isfinite

from rosd_kit.display.text import comparison_note
from rosd_kit.evaluation.results import comparison_rows
from rosd_kit.report.reading import Record, RunRecords
from rosd_kit.text.leaks import leaks
from rosd_kit.text.quotes import find_quote

#: The outcomes that rollouts can be filtered by; a row holds the indices of those that apply.
OUTCOMES: dict[str, Callable[[Record], bool]] = {
    "correct": lambda r: bool(r.get("success")),
    "wrong": lambda r: not r.get("success"),
    "quote missing": lambda r: r.get("localized") == "missing",
    "quote fuzzy": lambda r: str(r.get("localized")).startswith("fuzzy"),
    "quote normalised": lambda r: str(r.get("localized")).startswith("normalised"),
    "quote ambiguous": lambda r: str(r.get("localized")).endswith("_ambiguous"),
    "wrong diagnosis": lambda r: _is_misdiagnosed(r),
    "error missed": lambda r: (r.get("judged") or {}).get("start") == "missed",
    "reflection failed": lambda r: r.get("reflection_status") not in (None, "ok", "none", "skipped"),
    "truncated": lambda r: r.get("finish_reason") == "length",
    "mentions a reference": lambda r: leaks(str(r.get("response", ""))),
    "not trained on": lambda r: r.get("status") != "ok",
    "left out": lambda r: r.get("status") == "left_out",
}
_SNIPPET = 120


def overview(run: RunRecords, *, first_metric: int = 0, first_evaluation: int = 0) -> Record:
    """Return the page's data without the rollouts; metrics and evaluations start at the given indices."""
    environment, model, samples = run.environment, run.recipe.get("model"), run.recipe.get("samples")
    comparisons = run.comparisons()
    return {
        "name": run.folder.resolve().name,
        "method": run.recipe.get("name"),
        "steps": run.recipe.get("steps"),
        "state": run.state,
        "group": run.recipe.get("group_size"),
        "model": model.get("path") if isinstance(model, dict) else None,
        "recipe": _text(run.origins.get("explained")) or run.recipe_text,
        "preset": _text(run.origins.get("preset")),
        "profile": _text(run.origins.get("profile")),
        "changes": _changes(run.origins.get("changes")),
        "components": {
            slot: _name(run.recipe.get(slot)) for slot in ("reflector", "localizer", "context", "teacher", "divergence")
        },
        "environment": {key: environment.get(key) for key in ("python", "platform", "device", "threads", "versions", "git")},
        "samples_every": samples.get("every", 1) if isinstance(samples, dict) else 1,
        "outcomes": list(OUTCOMES),
        "watch": run.watch.model_dump(),
        "metrics": [_shorten(record) for record in run.metrics[first_metric:]],
        "evaluations": [without_scores(record) for record in run.evaluations[first_evaluation:]],
        "differences": [asdict(row) for row in comparison_rows(comparisons)],
        "note": comparison_note(comparisons) if comparisons else "",
        "warnings": run.warnings(),
    }


def row(record: Record) -> list[object]:
    """Return a rollout's row in the list: problem, suite, index, outcomes, number of tokens, start of the text."""
    outcomes = [index for index, applies in enumerate(OUTCOMES.values()) if applies(record)]
    text = str(record.get("response", ""))[:_SNIPPET]
    tokens = len(record.get("token_ids") or ())
    return [record.get("problem", "?"), record.get("suite") or "", record.get("index", 0), outcomes, tokens, text]


def detail(record: Record) -> Record:
    """Return everything that the page shows of one rollout."""
    text, quote = str(record.get("response", "")), record.get("quote")
    position = utf16_positions(text)
    spans = [(position(start), position(end)) for start, end in record.get("token_spans") or ()]
    copied = {
        key: record.get(key)
        for key in (
            *("answer", "answered", "response", "finish_reason", "score", "success", "feedback", "views", "view_sources"),
            *("reflection", "reflection_status", "idea", "quote", "localized", "judged", "student_prompt", "teacher_prompts"),
            *("status", "reason", "weights", "divergence", "student_logprobs", "teacher_logprobs"),
        )
    }
    return copied | {
        "messages": record.get("messages") or [],
        "spans": [end for span in spans for end in span],
        "quoted": _convert_span(position, _find_quoted_span(text, quote, record)),
        "true_error": _convert_span(position, record.get("true_error")),
        "located_at": None if record.get("located_at") is None else position(record["located_at"]),
    }


def utf16_positions(text: str) -> Callable[[int], int]:
    """Return a function that converts a character position in `text` to UTF-16 code units, clipped to the text."""
    if text.isascii() or max(text) <= "\uffff":
        return lambda at: min(max(at, 0), len(text))
    positions = [0]
    for character in text:
        positions.append(positions[-1] + (2 if character > "\uffff" else 1))
    return lambda at: positions[min(max(at, 0), len(text))]


def _find_quoted_span(text: str, quote: str | None, record: Record) -> Sequence[int] | None:
    if not quote or not text:
        return None
    match = find_quote(text, quote, hint=record.get("idea") or "")
    return None if match.outcome == "missing" else (match.start, match.end)


def _convert_span(position: Callable[[int], int], span: Sequence[int] | None) -> list[int] | None:
    return [position(at) for at in span] if span else None


def _is_misdiagnosed(record: Record) -> bool:
    judged = record.get("judged") or {}
    return judged.get("start") == "missed" or judged.get("quote") is False or judged.get("idea") is False


def without_scores(record: Record) -> Record:
    """Return an evaluation without the scores of single problems, which the page does not show."""
    results = []
    for stored in record["results"]:
        result = {key: value for key, value in stored.items() if key not in ("scores", "failed")}
        result["errors"] = sum((stored.get("failed") or {}).values())
        result["worst_case"] = len(set((stored.get("scores") or {}).values())) <= 1
        results.append(result)
    return {"step": record["step"], "results": results}


def _shorten(record: Mapping[str, object]) -> Record:
    return {name: rounded(value) for name, value in record.items() if not name.startswith("time/train/")}


def rounded(value: object) -> object:
    return float(f"{value:.5g}") if isinstance(value, float) and isfinite(value) else value


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _changes(value: object) -> list[Record]:
    """Return what a run changes of its shipped recipe, whatever is in its record."""
    entries = value if isinstance(value, list) else []
    keys = ("path", "preset", "value", "origin")
    return [{key: _text(entry.get(key)) for key in keys} for entry in entries if isinstance(entry, dict)]


def _name(choice: object) -> object:
    return choice.get("name") if isinstance(choice, dict) else choice
