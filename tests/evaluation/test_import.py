"""`evaluate` and `datasets` take seconds to import: only computing a metric does. For commands that list: test_startup.py."""

from __future__ import annotations

import subprocess
import sys

CALL = """
import sys
from rosd_kit.cli import main
for problems in (0, 1):
    try:
        main([*sys.argv[1:], f"evaluation.problems={problems}"])
    except SystemExit as end:
        assert not end.code, end.code
    print("imported:", *sorted({"evaluate", "datasets"} & set(sys.modules)))
"""
RUN = ("run", "rosd", "profile=micro", "steps=1", "problems_per_step=1", "group_size=2", "sampling.max_new_tokens=4")
QUICK = (*RUN, "gate=all", "demonstration=reference", "reflector=oracle", "localizer=full", "--quiet")


def test_evaluate_is_imported_when_a_metric_is_computed(tmp_path):
    done = subprocess.run([sys.executable, "-c", CALL, *QUICK], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    imported = [line for line in done.stdout.splitlines() if line.startswith("imported:")]
    assert imported == ["imported:", "imported: datasets evaluate"]
