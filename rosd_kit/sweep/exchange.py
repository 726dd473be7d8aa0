"""Results of finished trials in a file: for a repository, or to go on with a sweep on another machine.

A file has a JSON object per line and trial, ordered by id, so that a version control system shows what is new. It is
compressed if its name ends in `.gz`.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from typing import cast

from rosd_kit.errors import RunError
from rosd_kit.evaluation.results import SuiteResult
from rosd_kit.files import explain_write_errors, write_atomically
from rosd_kit.sweep.records import StoredPlan, TrialResult
from rosd_kit.sweep.store import Store
from rosd_kit.types import JsonObject

_FIELDS = ("evaluations", "resumed", "made_with", "warnings", "seconds")


def export_results(store: Store, file: Path) -> int:
    """Write the results of all finished trials, each with seed and values on the latest plan's axes. Return how many."""
    combinations = _combinations(store.plan())
    lines = [
        json.dumps({"id": id, "seed": row.seed, "combination": combinations.get(id), "result": row.result}, sort_keys=True)
        for id, row in sorted(store.rows().items())
        if row.state == "finished"
    ]
    content = "".join(f"{line}\n" for line in lines).encode()
    with explain_write_errors(str(file), "Give another file"):
        write_atomically(file, [gzip.compress(content, mtime=0) if file.suffix == ".gz" else content])
    return len(lines)


def import_results(store: Store, ids: Sequence[str], file: Path) -> int:
    """Finish those of these trials that nobody works on and that the file has results of. Return how many.

    Raises `RunError` if the file cannot be read; then nothing has changed.
    """
    return store.adopt({id: result for id, result in _read(file).items() if id in set(ids)})


def _combinations(plan: StoredPlan) -> dict[str, JsonObject]:
    """Return the values that a plan gives each of its trials, by axis."""
    return {
        trial["id"]: dict(zip(plan["axes"], plan["cells"][trial["cell"]]["labels"], strict=True)) for trial in plan["trials"]
    }


def _read(file: Path) -> dict[str, TrialResult]:
    results: dict[str, TrialResult] = {}
    try:
        content = file.read_bytes()
        for line in (gzip.decompress(content) if file.suffix == ".gz" else content).decode().splitlines():
            value = json.loads(line)
            results[str(value["id"])] = _checked(value["result"])
    except (OSError, EOFError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise RunError(
            f"{file}: cannot be read as results of a sweep, after {len(results)} trials: {type(error).__name__}: {error}. "
            "Give a file that `rosd-kit sweep export` wrote"
        ) from error
    return results


def _checked(result: JsonObject) -> TrialResult:
    """Return a result that reports can read. Raises `KeyError`, `TypeError` or `ValueError` for others."""
    for field in _FIELDS:
        result[field]
    for evaluation in result["evaluations"]:
        int(evaluation["step"])
        for suite in evaluation["results"]:
            SuiteResult.from_json(suite)
    return cast(TrialResult, result)
